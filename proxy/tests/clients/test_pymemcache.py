"""pymemcache's own integration tests, which know nothing but one address.

They come in its wheel. Two hundred of them run when gevent is installed; six
are switched off by their authors. Every test begins with `flush_all`, so that
passing over two servers needs that to reach both.
"""

import importlib.util
import re
import subprocess
import sys

import pytest

PASSED = 200


@pytest.mark.parametrize("servers", [1, 2])
def test_all_of_pymemcache_passes(proxy, tmp_path, servers):
    port = proxy(memcached=servers).memcached
    # By path, so that pytest finds their conftest.py, which declares the options.
    tests = importlib.util.find_spec("pymemcache.test.test_integration").origin
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
    command += [tests, "--server", "127.0.0.1", "--port", str(port)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    passed = re.search(r"(\d+) passed", run.stdout)
    assert run.returncode == 0 and passed and int(passed[1]) == PASSED, run.stdout + run.stderr
