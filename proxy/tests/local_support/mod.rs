//! Real servers to compare with, and reproducible chance.

#![allow(dead_code, reason = "each test file uses its part")]

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A server process on a free loopback port, ended when this is dropped.
pub struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// redis-server without persistence; `None`, said aloud, where it is not installed.
    pub fn redis() -> Option<Server> {
        Server::start("redis-server", |port, command| {
            command
                .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                .args(["--enable-debug-command", "yes", "--port", port]);
        })
    }

    /// memcached; `None`, said aloud, where it is not installed.
    pub fn memcached() -> Option<Server> {
        Server::start("memcached", |port, command| {
            // Its background threads hold an item for a moment now and then;
            // arithmetic then makes a new item instead of writing over the old.
            command.args(["-o", "no_lru_maintainer,no_lru_crawler"]);
            command.args(["-u", "root", "-l", "127.0.0.1", "-p", port]);
        })
    }

    fn start(program: &str, prepare: impl Fn(&str, &mut Command)) -> Option<Server> {
        // Another process may take the port between the look and the start.
        for _ in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let mut command = Command::new(program);
            prepare(&free.to_string(), &mut command);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let Ok(child) = command.current_dir(std::env::temp_dir()).spawn() else {
                assert!(
                    std::env::var_os("EMBERLINE_REQUIRE_SERVERS").is_none(),
                    "{program} is required and cannot be started"
                );
                eprintln!("skipped: {program} is not installed");
                return None;
            };
            let mut server = Server { child, port: free };
            if server.answers() {
                return Some(server);
            }
        }
        panic!("{program} does not start");
    }

    fn answers(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// A new connection.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same numbers for the same seed (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end as u64) as usize
    }

    pub fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

/// Milliseconds since the Unix epoch.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64
}
