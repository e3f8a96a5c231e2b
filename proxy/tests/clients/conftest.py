"""Real servers and the binary under test, each on a free loopback port.

A test asks for `proxy(redis=2)`, `proxy(memcached=1)` or `proxy()` (the
embedded pools) and gets the ports that its client connects to. Everything
that was started is killed by its own process id when the module is done.
"""

import os
import shutil
import socket
import subprocess
import time
from types import SimpleNamespace

import pytest

BINARY = os.environ.get("EMBERLINE_BIN", "target/debug/emberline")
PATIENCE = 20.0


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def await_answer(process, port, ask, expected):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{process.args[0]} has ended"
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as stream:
                stream.sendall(ask)
                if stream.recv(64).startswith(expected):
                    return
        except OSError:
            pass
        time.sleep(0.01)
    raise AssertionError(f"{process.args[0]} does not answer on port {port}")


PROBES = {"redis": (b"PING\r\n", b"+PONG"), "memcached": (b"version\r\n", b"VERSION")}


class Processes:
    """Starts processes and ends them all."""

    def __init__(self, directory):
        self.directory = directory
        self.running = []

    def start(self, *command):
        process = subprocess.Popen(
            command,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.running.append(process)
        return process

    def server(self, kind):
        port = free_port()
        if kind == "redis":
            command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
        else:
            command = ["memcached", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-u", "root"]
        if shutil.which(command[0]) is None:
            if "EMBERLINE_REQUIRE_SERVERS" in os.environ or "CI" in os.environ:
                pytest.fail(f"{command[0]} is not installed")
            pytest.skip(f"{command[0]} is not installed")
        await_answer(self.start(*command), port, *PROBES[kind])
        return port

    def proxy(self, redis=0, memcached=0):
        """Emberline with two workers before so many servers of each kind."""
        command = [os.path.abspath(BINARY), "serve", "--workers", "2", "--admin-bind", "off"]
        counts = {"redis": redis, "memcached": memcached}
        embedded = not any(counts.values())
        ports, servers = {}, {}
        for kind, count in counts.items():
            if count or embedded:
                ports[kind] = free_port()
                command += [f"--{kind}-bind", f"127.0.0.1:{ports[kind]}"]
            if count:
                servers[kind] = [self.server(kind) for _ in range(count)]
                addresses = (f"127.0.0.1:{port}" for port in servers[kind])
                command += [f"--{kind}", ",".join(addresses)]
        process = self.start(*command)
        for kind, port in ports.items():
            await_answer(process, port, *PROBES[kind])
        return SimpleNamespace(process=process, servers=servers, **ports)

    def end(self):
        for process in self.running:
            process.kill()
        for process in self.running:
            process.wait()


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    processes = Processes(tmp_path_factory.mktemp("servers"))
    yield processes
    processes.end()


@pytest.fixture(scope="module")
def proxy(processes):
    """Start a proxy: `proxy(redis=2)`; the same again gives the same one."""
    started = {}

    def start(**servers):
        key = tuple(sorted(servers.items()))
        if key not in started:
            started[key] = processes.proxy(**servers)
        assert started[key].process.poll() is None, "emberline has ended"
        return started[key]

    return start
