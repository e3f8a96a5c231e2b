//! Two pools of real servers, and `emberline warm` as a user runs it.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::support::{Server, TempDir};

/// A configuration with the pools `old` and `new`.
pub struct House {
    pub old: Vec<Server>,
    pub new: Vec<Server>,
    pub dir: TempDir,
    protocol: &'static str,
}

impl House {
    pub fn redis(old: usize, new: usize) -> Option<House> {
        let servers = |count| Server::redis_many(count);
        Some(House::new("redis", servers(old)?, servers(new)?))
    }

    pub fn memcached(old: usize, new: usize) -> Option<House> {
        let servers = |count| Server::memcached_many(count);
        Some(House::new("memcached", servers(old)?, servers(new)?))
    }

    pub fn new(protocol: &'static str, old: Vec<Server>, new: Vec<Server>) -> House {
        let house = House {
            old,
            new,
            dir: TempDir::new(),
            protocol,
        };
        house.configure("", "");
        house
    }

    /// Write the configuration, with more lines for each pool.
    pub fn configure(&self, old: &str, new: &str) {
        let protocol = self.protocol;
        let pool = |name: &str, servers: &[Server], more: &str| {
            let servers: Vec<String> = servers
                .iter()
                .map(|server| {
                    format!(
                        "{{ address = \"{}\", name = \"s{}\" }}",
                        server.address(),
                        server.port()
                    )
                })
                .collect();
            let servers = servers.join(", ");
            format!("[pools.{name}]\nprotocol = \"{protocol}\"\nservers = [{servers}]\n{more}\n")
        };
        let text = format!(
            "[listeners.main]\nprotocol = \"{protocol}\"\nbind = \"127.0.0.1:1\"\nroute = \"old\"\n{}{}\
             [pools.memory]\nprotocol = \"{protocol}\"\nkind = \"local\"\n\
             [pools.other]\nprotocol = \"{}\"\nservers = [\"127.0.0.1:1\"]\n",
            pool("old", &self.old, old),
            pool("new", &self.new, new),
            if protocol == "redis" {
                "memcached"
            } else {
                "redis"
            },
        );
        std::fs::write(self.config(), text).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("emberline.toml")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The servers that the configuration's ring chooses among, by placing a
    /// key as `explain` does.
    pub fn command(&self, args: &[&str]) -> Command {
        let config = self.config();
        let mut command = emberline(&["warm", "-c", config.to_str().unwrap()]);
        command.args(["--from", "old", "--to", "new"]).args(args);
        command
    }

    /// Warm, and take the summary of a run that succeeds.
    pub fn warm(&self, args: &[&str]) -> Value {
        let output = self.try_warm(args);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        summary(&output)
    }

    pub fn try_warm(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        command.arg("--json").output().unwrap()
    }

    pub fn start(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        command.arg("--json");
        Running::start(command)
    }

    /// Begin at this rate and be killed as soon as a checkpoint says how far
    /// that came; the checkpoint.
    pub fn killed_half_way(&self, rate: &str) -> String {
        let path = self.path("state.json");
        let file = path.to_str().unwrap().to_owned();
        let mut run = self.start(&["--checkpoint", &file, "--rate", rate]);
        until("a cursor in the checkpoint", || has_cursor(&path));
        run.kill();
        file
    }

    /// Which of the old servers the ring gives a key to.
    pub fn old_home(&self, key: &[u8]) -> usize {
        home(&self.old, key)
    }

    /// Which of the new ones.
    pub fn new_home(&self, key: &[u8]) -> usize {
        home(&self.new, key)
    }
}

/// Where the pool's ring, ketama over fnv1a_64, puts a key.
fn home(servers: &[Server], key: &[u8]) -> usize {
    use emberline_routing::{
        ByteSign, Distribution, Hash, HashTag, Member, Pool, PoolId, PoolSpec, ServerId,
    };
    thread_local! {
        static RINGS: std::cell::RefCell<std::collections::HashMap<Vec<u16>, std::rc::Rc<Pool>>> = Default::default();
    }
    let ports: Vec<u16> = servers.iter().map(Server::port).collect();
    let ring = RINGS.with_borrow_mut(|rings| {
        let build = || {
            let member = |port: &u16| Member {
                name: format!("s{port}"),
                weight: 1,
            };
            std::rc::Rc::new(
                Pool::new(PoolSpec {
                    name: "pool".to_owned(),
                    id: PoolId(0),
                    members: ports.iter().map(member).collect(),
                    ids: (0..).map(ServerId).take(ports.len()).collect(),
                    distribution: Distribution::Ketama,
                    hash: Hash::Fnv1a_64,
                    byte_sign: ByteSign::Signed,
                    salt: Box::default(),
                    hash_tag: None::<HashTag>,
                })
                .unwrap(),
            )
        };
        std::rc::Rc::clone(rings.entry(ports.clone()).or_insert_with(build))
    });
    ring.server(key).0 as usize
}

/// A run that is under way, killed when dropped.
pub struct Running(Child);

impl Running {
    pub fn start(mut command: Command) -> Running {
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        Running(command.spawn().unwrap())
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Ctrl-C. The shell's builtin, because a signal needs unsafe code otherwise.
    pub fn interrupt(&self) {
        let script = format!("kill -INT {}", self.0.id());
        let status = Command::new("sh").args(["-c", &script]).status().unwrap();
        assert!(status.success());
    }

    /// Wait for its end.
    pub fn output(mut self) -> Output {
        let mut stdout = Vec::new();
        std::io::Read::read_to_end(self.0.stdout.as_mut().unwrap(), &mut stdout).unwrap();
        Output {
            status: self.0.wait().unwrap(),
            stdout,
            stderr: Vec::new(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn emberline(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_emberline"));
    command.args(args).stdin(Stdio::null());
    command
}

pub fn summary(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(output)))
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The state in a checkpoint of the server at this place; `None`: no file yet.
pub fn checkpoint(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Whether it says how far any server has been read: a cursor of its own, or
/// slices of its dump.
fn has_cursor(path: &Path) -> bool {
    let state = checkpoint(path);
    let servers = state
        .as_ref()
        .and_then(|state| state["servers"].as_object());
    servers.is_some_and(|servers| servers.values().any(|one| one["cursor"].as_u64() > Some(0)))
}

/// Look until it is so; the test fails when it never is.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !so() {
        assert!(std::time::Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
