//! The real twemproxy against our rings: the same server for every key.
//!
//! One `nutcracker` serves a pool for every case, all of them over the same
//! 25 scripted servers, each of which answers any GET with its own name.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use emberline_routing::{
    ByteSign, Distribution, Hash, HashTag, Member, Pool, PoolId, PoolSpec, ServerId,
};

const SERVERS: usize = 25;
/// Requests in flight at once; nutcracker is slow with many more.
const PIPELINE: usize = 400;
/// `$3\r\ns07\r\n`
const REPLY: usize = 9;

struct Case {
    hash: Hash,
    distribution: Distribution,
    weights: Vec<u32>,
    aliases: bool,
    hash_tag: Option<HashTag>,
    keys: usize,
}

fn cases() -> Vec<Case> {
    let case = |weights: &[u32], keys| Case {
        hash: Hash::Fnv1a_64,
        distribution: Distribution::Ketama,
        weights: weights.to_vec(),
        aliases: true,
        hash_tag: None,
        keys,
    };
    let mixed: Vec<u32> = (0..SERVERS as u32).map(|i| 1 + i * i % 11).collect();
    let mut cases = vec![
        case(&[1; 3], 100_000),
        case(&[1, 2, 5], 100_000),
        case(&[1; SERVERS], 100_000),
        case(&mixed, 100_000),
        Case {
            aliases: false,
            ..case(&[3, 1, 2], 10_000)
        },
        Case {
            hash_tag: Some(HashTag::BRACES),
            ..case(&[1; 3], 10_000)
        },
        Case {
            hash_tag: Some(HashTag::new(b'$', b'$')),
            ..case(&[1; 3], 4_000)
        },
        Case {
            distribution: Distribution::Modula,
            ..case(&[1, 2, 5], 10_000)
        },
        case(&[7], 1_000),
    ];
    cases.extend(Hash::ALL.map(|hash| Case {
        hash,
        ..case(&[1, 2, 5, 3], 4_000)
    }));
    cases
}

#[test]
fn nutcracker_sends_every_key_to_the_same_server() {
    let Some(binary) = nutcracker_binary() else {
        return;
    };
    let ports = scripted_servers();
    let cases = cases();
    let keys = keys(100_000);
    let nutcracker = Nutcracker::start(&binary, &cases, &ports);

    for (number, case) in cases.iter().enumerate() {
        let pool = pool(case, &ports);
        let mut connection = nutcracker.connect(number);
        let what = format!(
            "case {number}: {} {} {:?}",
            case.hash, case.distribution, case.weights
        );
        for batch in keys[..case.keys].chunks(PIPELINE) {
            let theirs = ask(&mut connection, batch)
                .unwrap_or_else(|error| panic!("{what}: {error}\n{}", nutcracker.log()));
            for (key, theirs) in batch.iter().zip(theirs) {
                let ours = pool.server(key).0 as usize;
                assert_eq!(ours, theirs, "{what}: \"{}\"", key.escape_ascii());
            }
        }
    }
}

/// Where nutcracker is installed. Without it the test is skipped aloud, but
/// where servers are required it fails.
fn nutcracker_binary() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = env::split_paths(&path).chain(["/usr/sbin".into()]);
    let found = places.find_map(|place: PathBuf| {
        let binary = place.join("nutcracker");
        binary.is_file().then_some(binary)
    });
    if found.is_none() {
        let required = env::var("CI").is_ok_and(|ci| ci == "true")
            || env::var_os("EMBERLINE_REQUIRE_SERVERS").is_some();
        assert!(!required, "nutcracker is not installed, and it is required");
        eprintln!("skipped: nutcracker is not installed");
    }
    found
}

/// Keys of many shapes: words, digits, tags of both kinds (empty ones too)
/// and bytes from 0x80 up. None holds a line feed, see `answer_gets`.
fn keys(count: usize) -> Vec<Vec<u8>> {
    let mut state = 1u64;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let mut key = |i: usize| match i % 8 {
        0 | 1 => format!("user:{i}").into_bytes(),
        2 => i.to_string().into_bytes(),
        3 => format!("a{{tag{}}}${i}$b", i / 80).into_bytes(),
        4 => format!("{{}}$${i}").into_bytes(),
        5 => format!("{i}{{unclosed$").into_bytes(),
        _ => {
            let length = 1 + next() % 40;
            let bytes = (0..length).map(|_| next() as u8);
            bytes
                .map(|byte| if byte == b'\n' { b'n' } else { byte })
                .collect()
        }
    };
    (0..count).map(&mut key).collect()
}

fn pool(case: &Case, ports: &[u16]) -> Pool {
    let member = |(i, &weight): (usize, &u32)| Member {
        name: match case.aliases {
            true => alias(i),
            false => case
                .distribution
                .ring_name(&format!("127.0.0.1:{}", ports[i])),
        },
        weight,
    };
    Pool::new(PoolSpec {
        name: "main".to_owned(),
        id: PoolId(0),
        members: case.weights.iter().enumerate().map(member).collect(),
        ids: (0..).map(ServerId).take(case.weights.len()).collect(),
        distribution: case.distribution,
        hash: case.hash,
        byte_sign: ByteSign::Signed,
        hash_tag: case.hash_tag,
        salt: Box::default(),
    })
    .expect("every case has servers with weights")
}

fn alias(server: usize) -> String {
    format!("cache-{server}.example")
}

/// Sends a GET for every key and tells which server answered each.
fn ask(connection: &mut UnixStream, keys: &[Vec<u8>]) -> Result<Vec<usize>, String> {
    let mut requests = Vec::new();
    for key in keys {
        requests.extend(format!("*2\r\n$3\r\nGET\r\n${}\r\n", key.len()).bytes());
        requests.extend(key);
        requests.extend(b"\r\n");
    }
    connection
        .write_all(&requests)
        .map_err(|error| error.to_string())?;

    let mut replies = vec![0; REPLY * keys.len()];
    connection
        .read_exact(&mut replies)
        .map_err(|error| error.to_string())?;
    let server = |reply: &[u8]| {
        let number = str::from_utf8(reply).ok()?.strip_prefix("$3\r\ns")?;
        number.trim_end().parse().ok()
    };
    replies
        .chunks(REPLY)
        .map(|reply| server(reply).ok_or_else(|| format!("reply \"{}\"", reply.escape_ascii())))
        .collect()
}

/// Starts the servers and returns their ports. Their threads end with the
/// test.
fn scripted_servers() -> Vec<u16> {
    (0..SERVERS)
        .map(|number| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            thread::spawn(move || {
                for connection in listener.incoming().flatten() {
                    thread::spawn(move || answer_gets(connection, number));
                }
            });
            port
        })
        .collect()
}

/// A GET is five lines, whatever its key, as long as no key holds a line
/// feed.
fn answer_gets(mut connection: TcpStream, number: usize) {
    connection.set_nodelay(true).unwrap();
    let reply = format!("$3\r\ns{number:02}\r\n").into_bytes();
    assert_eq!(reply.len(), REPLY);
    let mut buffer = [0; 65_536];
    let mut lines = 0;
    while let Ok(length @ 1..) = connection.read(&mut buffer) {
        lines += buffer[..length]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        if connection.write_all(&reply.repeat(lines / 5)).is_err() {
            return;
        }
        lines %= 5;
    }
}

/// A running nutcracker and its directory; both go when it is dropped.
struct Nutcracker {
    process: Child,
    directory: PathBuf,
}

impl Nutcracker {
    fn start(binary: &Path, cases: &[Case], ports: &[u16]) -> Nutcracker {
        let directory = env::temp_dir().join(format!("emberline-nc-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let config = directory.join("nutcracker.yml");
        fs::write(&config, yaml(cases, ports, &directory)).unwrap();
        // It cannot be told to do without a port for its figures.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let stats = free.local_addr().unwrap().port();
        drop(free);

        let process = Command::new(binary)
            .arg("-c")
            .arg(&config)
            .args(["-a", "127.0.0.1", "-s", &stats.to_string()])
            .arg("-o")
            .arg(directory.join("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Nutcracker { process, directory }
    }

    fn connect(&self, case: usize) -> UnixStream {
        let path = socket(&self.directory, case);
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match UnixStream::connect(&path) {
                Ok(connection) => {
                    let patience = Some(Duration::from_secs(20));
                    connection.set_read_timeout(patience).unwrap();
                    connection.set_write_timeout(patience).unwrap();
                    return connection;
                }
                // It has no way to tell that it is ready.
                Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                Err(error) => panic!("nutcracker does not listen: {error}\n{}", self.log()),
            }
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Nutcracker {
    fn drop(&mut self) {
        // Nothing can be done about a process or a directory that is gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn socket(directory: &Path, case: usize) -> PathBuf {
    directory.join(format!("{case}.sock"))
}

fn yaml(cases: &[Case], ports: &[u16], directory: &Path) -> String {
    let mut yaml = String::new();
    for (number, case) in cases.iter().enumerate() {
        let listen = socket(directory, number);
        yaml += &format!("case{number}:\n  listen: {}\n", listen.display());
        yaml += &format!(
            "  hash: {}\n  distribution: {}\n",
            case.hash, case.distribution
        );
        if let Some(tag) = case.hash_tag {
            yaml += &format!(
                "  hash_tag: \"{}{}\"\n",
                tag.open as char, tag.close as char
            );
        }
        yaml += "  redis: true\n  servers:\n";
        for (i, weight) in case.weights.iter().enumerate() {
            let name = if case.aliases {
                alias(i)
            } else {
                String::new()
            };
            yaml += &format!("   - 127.0.0.1:{}:{weight} {name}\n", ports[i]);
        }
    }
    yaml
}
