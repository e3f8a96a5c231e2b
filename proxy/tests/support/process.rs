//! Processes: redis-server, memcached and emberline.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::client::Client;

/// How long a process may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);

/// The file in its directory that a proxy logs to.
const LOG: &str = "log.json";

/// A loopback port that nobody listens on, never the same twice.
pub fn free_port() -> u16 {
    static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    loop {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut taken = TAKEN.lock().unwrap();
        if taken.get_or_insert_default().insert(port) {
            return port;
        }
    }
}

/// A directory that is removed when dropped.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("emberline-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A child that is killed and waited for when dropped.
#[derive(Debug)]
struct Guard(Child);

impl Guard {
    fn spawn(command: &mut Command) -> std::io::Result<Guard> {
        command.stdin(Stdio::null()).spawn().map(Guard)
    }

    /// The shell's builtin, because sending a signal needs unsafe code otherwise.
    fn signal(&self, name: &str) {
        let script = format!("kill -{name} {}", self.0.id());
        let status = Command::new("sh").args(["-c", &script]).status().unwrap();
        assert!(status.success(), "{script}");
    }

    /// Whether all of its threads stand still.
    fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
        threads.flatten().all(|thread| {
            let status = std::fs::read_to_string(thread.path().join("stat"));
            // The name in parentheses may hold anything.
            status.is_ok_and(|status| {
                status
                    .rsplit_once(") ")
                    .is_some_and(|(_, state)| state.starts_with('T'))
            })
        })
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return Some(status);
            }
            if Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.kill();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Redis,
    Memcached,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Program::Redis => "redis-server",
            Program::Memcached => "memcached",
        }
    }

    fn command(self, at: SocketAddr, extra: &[String], dir: &Path) -> Command {
        let mut command = Command::new(self.name());
        let (host, port) = (at.ip().to_string(), at.port().to_string());
        match self {
            Program::Redis => command
                .args(["--bind", &host, "--port", &port, "--save", ""])
                .args(["--appendonly", "no", "--loglevel", "warning"]),
            // One that speaks TLS elsewhere is asked in the clear here.
            Program::Memcached if extra.iter().any(|arg| arg == "-Z") => {
                let place = format!("notls:{host}:{port}");
                command.args(["-l", &place, "-U", "0", "-u", "root"])
            }
            Program::Memcached => command.args(["-l", &host, "-p", &port, "-U", "0", "-u", "root"]),
        };
        command.args(extra).current_dir(dir);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn probe(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Program::Redis => (b"PING\r\n", b"+PONG"),
            Program::Memcached => (b"version\r\n", b"VERSION"),
        }
    }
}

/// A redis-server or memcached of our own.
#[derive(Debug)]
pub struct Server {
    program: Program,
    host: IpAddr,
    port: u16,
    extra: Vec<String>,
    dir: TempDir,
    child: Option<Guard>,
}

impl Server {
    /// A redis-server without persistence; `None` when there is none and the
    /// test may be skipped.
    pub fn redis() -> Option<Server> {
        Server::start(Program::Redis, &[])
    }

    /// A redis-server at this address; `None` when there is none.
    pub fn redis_at(at: SocketAddr) -> Option<Server> {
        let mut server = Server::new(Program::Redis, at, &[]);
        match server.try_start() {
            Ok(()) => Some(server),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                skip(Program::Redis.name());
                None
            }
            Err(error) => panic!("redis-server does not start at {at}: {error}"),
        }
    }

    /// `count` of them.
    pub fn redis_many(count: usize) -> Option<Vec<Server>> {
        (0..count).map(|_| Server::redis()).collect()
    }

    /// A redis-server with more arguments.
    pub fn redis_with(extra: &[&str]) -> Option<Server> {
        Server::start(Program::Redis, extra)
    }

    /// A memcached.
    pub fn memcached() -> Option<Server> {
        Server::start(Program::Memcached, &[])
    }

    /// `count` of them.
    pub fn memcached_many(count: usize) -> Option<Vec<Server>> {
        (0..count).map(|_| Server::memcached()).collect()
    }

    /// A memcached with more arguments.
    pub fn memcached_with(extra: &[&str]) -> Option<Server> {
        Server::start(Program::Memcached, extra)
    }

    fn start(program: Program, extra: &[&str]) -> Option<Server> {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut server = Server::new(program, at, extra);
        for _ in 0..3 {
            match server.try_start() {
                Ok(()) => return Some(server),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    skip(program.name());
                    return None;
                }
                // Somebody else took the port between our look and its bind.
                Err(_) => server.port = free_port(),
            }
        }
        panic!("{} does not start", program.name());
    }

    fn new(program: Program, at: SocketAddr, extra: &[&str]) -> Server {
        Server {
            program,
            host: at.ip(),
            port: at.port(),
            extra: extra.iter().map(|&text| text.to_owned()).collect(),
            dir: TempDir::new(),
            child: None,
        }
    }

    fn try_start(&mut self) -> std::io::Result<()> {
        let mut command = self
            .program
            .command(self.address(), &self.extra, self.dir.path());
        let child = self.child.insert(Guard::spawn(&mut command)?);
        let (ask, expected) = self.program.probe();
        let address = SocketAddr::new(self.host, self.port);
        if await_answer(address, ask, expected, &mut child.0) {
            return Ok(());
        }
        self.child = None;
        Err(std::io::ErrorKind::Other.into())
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    /// A client connected without a proxy between.
    pub fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child = None;
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Start again, empty, on the same port.
    pub fn restart(&mut self) {
        self.child = None;
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = self.try_start() {
            assert!(
                Instant::now() < deadline,
                "{} does not restart: {error}",
                self.program.name()
            );
        }
    }

    /// SIGSTOP: it keeps its connections and says nothing.
    pub fn freeze(&self) {
        let child = self.child.as_ref().expect("it runs");
        child.signal("STOP");
        // Whoever is running at this moment goes on for a little.
        let deadline = Instant::now() + PATIENCE;
        while !child.is_stopped() {
            assert!(Instant::now() < deadline, "it does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.child.as_ref().expect("it runs").signal("CONT");
    }
}

fn skip(program: &str) {
    let required = ["EMBERLINE_REQUIRE_SERVERS", "CI"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    assert!(!required, "{program} is not installed");
    eprintln!("skipped: {program} is not installed");
}

/// Whether `child` comes to say `expected` to `ask`.
fn await_answer(address: SocketAddr, ask: &[u8], expected: &[u8], child: &mut Child) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if answers(address, ask, expected).unwrap_or(false) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

fn answers(address: SocketAddr, ask: &[u8], expected: &[u8]) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(ask)?;
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer)?;
    // A proxy with a password is up, too, when it asks for that.
    Ok(answer == expected || answer == b"-NOAU")
}

/// The binary under test.
#[derive(Debug)]
pub struct Emberline {
    child: Guard,
    redis: Option<SocketAddr>,
    memcached: Option<SocketAddr>,
    dir: TempDir,
}

impl Emberline {
    /// Two workers before these Redis servers.
    pub fn redis(servers: &[Server]) -> Emberline {
        let addresses: Vec<SocketAddr> = servers.iter().map(Server::address).collect();
        Emberline::redis_at(&addresses)
    }

    /// The same, whatever listens there.
    pub fn redis_at(addresses: &[SocketAddr]) -> Emberline {
        let bind = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let args = [
            "--redis".to_owned(),
            join(addresses),
            "--redis-bind".to_owned(),
            bind.to_string(),
        ];
        Emberline::start(&args, Some(bind), None, TempDir::new())
    }

    /// The same with this request timeout.
    pub fn redis_within(addresses: &[SocketAddr], request_timeout: &str) -> Emberline {
        let servers: Vec<String> = addresses.iter().map(|at| format!("\"{at}\"")).collect();
        Emberline::config(&format!(
            "[listeners.redis]\nprotocol = \"redis\"\nbind = \"REDIS_BIND\"\nroute = \"pool\"\n\
             [pools.pool]\nprotocol = \"redis\"\nservers = [{}]\nrequest_timeout = \"{request_timeout}\"\n",
            servers.join(", ")
        ))
    }

    /// Two workers before these memcached servers.
    pub fn memcached(servers: &[Server]) -> Emberline {
        let addresses: Vec<SocketAddr> = servers.iter().map(Server::address).collect();
        let bind = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (servers, bind_arg) = (join(&addresses), bind.to_string());
        let args = [
            "--memcached".to_owned(),
            servers,
            "--memcached-bind".to_owned(),
            bind_arg,
        ];
        Emberline::start(&args, None, Some(bind), TempDir::new())
    }

    /// Two workers with this configuration, in which `REDIS_BIND` and
    /// `MEMCACHED_BIND` stand for the addresses that the clients connect to.
    pub fn config(text: &str) -> Emberline {
        Emberline::config_with(text, &[])
    }

    /// The same, told more on the command line.
    pub fn config_with(text: &str, more: &[&str]) -> Emberline {
        Emberline::configured(text, more, |_, _| {})
    }

    /// The same as [`config`](Self::config), with a log that [`log`](Self::log)
    /// reads.
    pub fn logging(text: &str) -> Emberline {
        Emberline::configured(text, &["--log-format", "json"], |command, dir| {
            let file = std::fs::File::create(dir.join(LOG)).unwrap();
            command.env("EMBERLINE_LOG", "info").stderr(file);
        })
    }

    /// What it has logged so far, line by line.
    pub fn log(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.dir.path().join(LOG)).unwrap();
        let whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        whole
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn configured(text: &str, more: &[&str], tune: impl Fn(&mut Command, &Path)) -> Emberline {
        let bind = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (mut redis, mut memcached) = (None, None);
        let mut text = text.to_owned();
        for (word, place) in [
            ("REDIS_BIND", &mut redis),
            ("MEMCACHED_BIND", &mut memcached),
        ] {
            if text.contains(word) {
                text = text.replace(word, &place.insert(bind()).to_string());
            }
        }
        let dir = TempDir::new();
        let file = dir.path().join("emberline.toml");
        std::fs::write(&file, text).unwrap();
        let mut args = vec!["-c".to_owned(), file.display().to_string()];
        args.extend(more.iter().map(|&arg| arg.to_owned()));
        let mut command = Emberline::command(&args);
        tune(&mut command, dir.path());
        Emberline::begin(command, redis, memcached, dir)
    }

    /// The file that [`config`](Self::config) made; another text can be put in
    /// its place.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("emberline.toml")
    }

    /// Put this text in its place, all at once.
    pub fn rewrite(&self, text: &str) {
        let binds = [
            ("REDIS_BIND", self.redis),
            ("MEMCACHED_BIND", self.memcached),
        ];
        let mut text = text.to_owned();
        for (word, address) in binds {
            if let Some(address) = address {
                text = text.replace(word, &address.to_string());
            }
        }
        let draft = self.dir.path().join("emberline.toml.new");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, self.file()).unwrap();
    }

    /// How many files and sockets it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .unwrap()
            .count()
    }

    /// As told by `args`, and not waited for.
    pub fn spawn(args: &[String]) -> Emberline {
        Emberline::of(Emberline::command(args))
    }

    fn command(args: &[String]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_emberline"));
        command.arg("serve").args(args);
        if !args.iter().any(|arg| arg == "--admin-bind") {
            command.args(["--admin-bind", "off"]);
        }
        if !args.iter().any(|arg| arg == "--workers") {
            command.args(["--workers", "2"]);
        }
        command.env("EMBERLINE_LOG", "error").stdout(Stdio::null());
        command
    }

    fn of(mut command: Command) -> Emberline {
        Emberline {
            child: Guard::spawn(&mut command).unwrap(),
            redis: None,
            memcached: None,
            dir: TempDir::new(),
        }
    }

    fn start(
        args: &[String],
        redis: Option<SocketAddr>,
        memcached: Option<SocketAddr>,
        dir: TempDir,
    ) -> Emberline {
        Emberline::begin(Emberline::command(args), redis, memcached, dir)
    }

    fn begin(
        command: Command,
        redis: Option<SocketAddr>,
        memcached: Option<SocketAddr>,
        dir: TempDir,
    ) -> Emberline {
        let mut emberline = Emberline {
            redis,
            memcached,
            dir,
            ..Emberline::of(command)
        };
        let probes = [(redis, Program::Redis), (memcached, Program::Memcached)];
        for (address, program) in probes {
            let Some(address) = address else { continue };
            let (ask, expected) = program.probe();
            let up = await_answer(address, ask, expected, &mut emberline.child.0);
            assert!(up, "emberline does not answer on {address}");
        }
        emberline
    }

    /// Where Redis clients connect.
    pub fn redis_address(&self) -> SocketAddr {
        self.redis.expect("it has a Redis listener")
    }

    /// Where memcached clients connect.
    pub fn memcached_address(&self) -> SocketAddr {
        self.memcached.expect("it has a memcached listener")
    }

    /// Its Redis listener's address, or else its memcached listener's.
    pub fn client_address(&self) -> SocketAddr {
        self.redis.or(self.memcached).expect("it has a listener")
    }

    /// A client of that listener.
    pub fn client(&self) -> Client {
        Client::connect(self.client_address())
    }

    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Send a signal such as `TERM`.
    pub fn signal(&self, name: &str) {
        self.child.signal(name);
    }

    /// Its exit code once it has ended, or `None` if it does not.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        self.child.wait(patience)
    }

    /// Fail unless it still runs.
    pub fn assert_alive(&mut self) {
        let status = self.child.0.try_wait().unwrap();
        assert!(status.is_none(), "emberline has ended: {status:?}");
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// What the kernel says of the process under this name, in bytes.
    pub fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.unwrap().trim().trim_end_matches("kB").trim();
        kib.parse::<u64>().unwrap() * 1024
    }
}

/// Where these servers listen.
pub fn addresses(servers: &[Server]) -> Vec<SocketAddr> {
    servers.iter().map(Server::address).collect()
}

fn join(addresses: &[SocketAddr]) -> String {
    addresses
        .iter()
        .map(SocketAddr::to_string)
        .collect::<Vec<_>>()
        .join(",")
}
