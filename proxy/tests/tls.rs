//! TLS towards clients and towards servers, with real servers and a real
//! client at the other end.

#![allow(clippy::unwrap_used)]

mod support;
mod tls_support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use support::{Client, Emberline, Server, command, eventually, free_port, page, show};
use tls_support::{HERE, Papers};

/// Large enough for several records, and for what sockets hold.
const LARGE: usize = 5_000_000;

/// A client that speaks TLS.
type Private = StreamOwned<ClientConnection, TcpStream>;

/// Connect as one who believes in the authority of `papers`, with a certificate
/// of the given name if there is one.
fn connect(papers: &Papers, at: SocketAddr, own: Option<&str>) -> Private {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(papers.path("ca.crt")).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let file = |kind: &str| papers.path(&format!("{name}.{kind}"));
            let chain = vec![CertificateDer::from_pem_file(file("crt")).unwrap()];
            let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(at).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
        .set_write_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    StreamOwned::new(session, stream)
}

/// Send, and read as many bytes as are expected.
#[track_caller]
fn exchange(client: &mut Private, request: &[u8], expected: &[u8]) {
    client.write_all(request).unwrap();
    client.flush().unwrap();
    let mut answer = vec![0; expected.len()];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(show(&answer), show(expected));
}

/// The serial number of the certificate that is shown, or all of it.
fn shown(client: &Private) -> Vec<u8> {
    client.conn.peer_certificates().unwrap()[0].to_vec()
}

/// A listener that shows `tls.crt`, before a pool of this server.
fn behind(papers: &Papers, server: &Server, more: &str) -> String {
    format!(
        "[listeners.main]\nprotocol = 'redis'\nbind = '{{}}'\nroute = 'p'\n\
         tls = {{ certificate = '{}', key = '{}'{more} }}\n\
         [pools.p]\nprotocol = 'redis'\nservers = ['{}']\n",
        papers.at("tls.crt"),
        papers.at("tls.key"),
        server.address()
    )
}

/// A proxy whose listener wants TLS, so that it cannot be asked whether it is
/// up; and where it listens.
fn private(text: &str, more: &str) -> (Emberline, SocketAddr) {
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let text = text.replace("{}", &at.to_string()) + more;
    let proxy = Emberline::config(&text);
    eventually("it listens", || TcpStream::connect(at).is_ok());
    (proxy, at)
}

/// A pool of one server that speaks TLS, and the ways to believe it.
fn pool(protocol: &str, place: &str, papers: &Papers, more: &str) -> String {
    format!(
        "[listeners.main]\nprotocol = '{protocol}'\nbind = '{}_BIND'\nroute = 'p'\n\
         [pools.p]\nprotocol = '{protocol}'\nservers = ['{place}']\n\
         tls = {{ ca = '{}'{more} }}\n",
        protocol.to_uppercase(),
        papers.at("ca.crt")
    )
}

#[test]
fn a_redis_server_is_spoken_to_in_private() {
    let papers = Papers::new();
    let Some((server, port)) = papers.redis() else {
        return;
    };
    let place = format!("127.0.0.1:{port}");
    let proxy = Emberline::config(&pool("redis", &place, &papers, ""));
    let mut client = proxy.client();
    assert_eq!(client.call(&["SET", "k", "v"]), b"+OK\r\n");
    assert_eq!(server.client().call(&["GET", "k"]), b"$1\r\nv\r\n");
    let many: Vec<u8> = (0..10_000)
        .flat_map(|number| command(&["SET", &format!("k:{number}"), &number.to_string()]))
        .collect();
    client.send(&many);
    for _ in 0..10_000 {
        assert_eq!(client.reply(), b"+OK\r\n");
    }
    // Larger than what is kept of requests and of replies: both stream through.
    let large = "x".repeat(LARGE);
    assert_eq!(client.call(&["SET", "large", &large]), b"+OK\r\n");
    assert_eq!(
        client.call(&["GET", "large"]).len(),
        LARGE + "$5000000\r\n\r\n".len()
    );
    assert_eq!(client.call(&["DBSIZE"]), b":10002\r\n");
}

#[test]
fn a_memcached_is_spoken_to_in_private() {
    let papers = Papers::new();
    let Some((server, port)) = papers.memcached() else {
        return;
    };
    let text =
        pool("memcached", &format!("127.0.0.1:{port}"), &papers, "") + "value_max = '8MiB'\n";
    let proxy = Emberline::config(&text);
    let mut client = proxy.client();
    assert_eq!(client.ask("set k 7 0 1\r\nv\r\n"), b"STORED\r\n");
    let value = b"VALUE k 7 1\r\nv\r\nEND\r\n";
    assert_eq!(server.client().ask("get k\r\n"), value);
    assert_eq!(client.ask("mg k v f\r\n"), b"VA 1 f7\r\nv\r\n");
    let large = "x".repeat(LARGE);
    assert_eq!(
        client.ask(format!("set large 0 0 {LARGE}\r\n{large}\r\n")),
        b"STORED\r\n"
    );
    assert!(client.ask("get large\r\n").len() > LARGE);
}

#[test]
fn a_server_that_returns_is_found_again_in_private() {
    let papers = Papers::new();
    let Some((mut server, port)) = papers.redis() else {
        return;
    };
    let text = pool("redis", &format!("127.0.0.1:{port}"), &papers, "") + "probe_first = '50ms'\n";
    let proxy = Emberline::config(&text);
    let mut client = proxy.client();
    assert_eq!(client.call(&["SET", "k", "v"]), b"+OK\r\n");
    server.kill();
    eventually("it is missed", || {
        client.call(&["GET", "k"]).starts_with(b"-")
    });
    server.restart();
    eventually("it is found", || client.call(&["GET", "k"]) == b"$-1\r\n");
}

#[test]
fn a_server_that_is_somebody_else_gets_no_request() {
    let (papers, others) = (Papers::new(), Papers::new());
    let Some((server, port)) = papers.redis() else {
        return;
    };
    let place = format!("127.0.0.1:{port}");
    let refused = |text: &str, why: &str| {
        let proxy = Emberline::config(text);
        let answer = proxy.client().call(&["SET", "k", "v"]);
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with('-') && answer.contains(why), "{answer}");
    };
    refused(&pool("redis", &place, &others, ""), "UnknownIssuer");
    let name = ", server_name = 'cache.example'";
    refused(&pool("redis", &place, &papers, name), "not valid for name");
    // A redis-server that speaks in the clear waits for the end of the line.
    let clear = format!("127.0.0.1:{}", server.port());
    refused(&pool("redis", &clear, &papers, ""), "connecting timed out");
    assert_eq!(server.client().call(&["DBSIZE"]), b":0\r\n");

    papers.issue_expired("tls", &HERE);
    let Some((_expired, port)) = papers.redis() else {
        return;
    };
    let place = format!("127.0.0.1:{port}");
    refused(&pool("redis", &place, &papers, ""), "expired");
}

#[test]
fn a_server_may_want_to_know_who_we_are() {
    let papers = Papers::new();
    let Some((server, port)) = papers.redis() else {
        return;
    };
    let must = ["CONFIG", "SET", "tls-auth-clients", "yes"];
    assert_eq!(server.client().call(&must), b"+OK\r\n");
    let place = format!("127.0.0.1:{port}");
    let proxy = Emberline::config(&pool("redis", &place, &papers, ""));
    assert!(proxy.client().call(&["PING2"]).starts_with(b"-"));
    assert!(proxy.client().call(&["GET", "k"]).starts_with(b"-"));
    papers.issue("me", &["me"]);
    let own = format!(
        ", certificate = '{}', key = '{}'",
        papers.at("me.crt"),
        papers.at("me.key")
    );
    let proxy = Emberline::config(&pool("redis", &place, &papers, &own));
    assert_eq!(proxy.client().call(&["GET", "k"]), b"$-1\r\n");
}

#[test]
fn clients_are_spoken_to_in_private() {
    let papers = Papers::new();
    let Some(server) = Server::redis() else {
        return;
    };
    let (_proxy, at) = private(&behind(&papers, &server, ""), "");
    let mut client = connect(&papers, at, None);
    exchange(&mut client, &command(&["SET", "k", "v"]), b"+OK\r\n");
    exchange(&mut client, &command(&["GET", "k"]), b"$1\r\nv\r\n");
    let gets = command(&["GET", "k"]).repeat(5_000);
    exchange(&mut client, &gets, &b"$1\r\nv\r\n".repeat(5_000));
    let large = vec![b'x'; LARGE];
    exchange(
        &mut client,
        &command(&[b"SET", &b"large"[..], &large]),
        b"+OK\r\n",
    );
    // Who reads late finds all of it.
    let get = command(&["GET", "large"]).repeat(4);
    client.write_all(&get).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let mut reply = format!("${LARGE}\r\n").into_bytes();
    reply.extend_from_slice(&large);
    reply.extend_from_slice(b"\r\n");
    exchange(&mut client, &command(&["GET", "k"]), &reply);
    for _ in 0..3 {
        exchange(&mut client, b"", &reply);
    }
    exchange(&mut client, &command(&["QUIT"]), b"$1\r\nv\r\n+OK\r\n");
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "it says that it leaves");
}

#[test]
fn clients_of_memcached_are_spoken_to_in_private() {
    let papers = Papers::new();
    let Some(server) = Server::memcached() else {
        return;
    };
    let text = behind(&papers, &server, "").replace("'redis'", "'memcached'");
    let (_proxy, at) = private(&text, "");
    let mut client = connect(&papers, at, None);
    exchange(&mut client, b"set k 3 0 1\r\nv\r\n", b"STORED\r\n");
    exchange(
        &mut client,
        b"get k\r\nmn\r\n",
        b"VALUE k 3 1\r\nv\r\nEND\r\nMN\r\n",
    );
}

#[test]
fn redis_cli_speaks_to_it_in_private() {
    let papers = Papers::new();
    let Some(server) = Server::redis() else {
        return;
    };
    let (_proxy, at) = private(&behind(&papers, &server, ""), "");
    let port = at.port().to_string();
    let ask = |papers: &Papers| {
        Command::new("redis-cli")
            .args(["-h", "127.0.0.1", "-p", &port, "--tls"])
            .args(["--cacert", &papers.at("ca.crt"), "incr", "n"])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    assert_eq!(ask(&papers).stdout, b"1\n");
    assert_eq!(ask(&papers).stdout, b"2\n");
    let stranger = ask(&Papers::new());
    let said = String::from_utf8(stranger.stderr).unwrap();
    assert!(said.contains("certificate verify failed"), "{said}");
}

#[test]
fn who_does_not_speak_it_disturbs_nobody() {
    let papers = Papers::new();
    let Some(server) = Server::redis() else {
        return;
    };
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let text = behind(&papers, &server, "");
    let more = format!("[proxy]\ntimeout_head = '1s'\n[status]\nbind = '{admin}'\n");
    let (proxy, at) = private(&text, &more);
    let mut good = connect(&papers, at, None);
    exchange(&mut good, &command(&["PING"]), b"+PONG\r\n");
    let failures = {
        let before = failures(admin);
        move || failures(admin) - before
    };
    // In the clear, nonsense, half a handshake, and nothing at all.
    for said in [
        &b"*1\r\n$4\r\nPING\r\n"[..],
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x05\x01",
        b"",
    ] {
        let mut stream = TcpStream::connect(at).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.write_all(said).unwrap();
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        let ended = ended.map_err(|error| error.kind());
        assert!(
            matches!(ended, Ok(_) | Err(ErrorKind::ConnectionReset)),
            "{ended:?}"
        );
        assert!(!rest.starts_with(b"+PONG"));
    }
    eventually("each is counted", || failures() == 4.0);
    exchange(&mut good, &command(&["PING"]), b"+PONG\r\n");
    drop(proxy);
}

/// What the metrics say of handshakes.
fn failures(admin: SocketAddr) -> f64 {
    let page = page(admin, "/metrics");
    let line = page
        .lines()
        .find(|line| line.starts_with("emberline_client_tls_failures_total{"))
        .unwrap_or_else(|| panic!("{page}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn clients_may_have_to_say_who_they_are() {
    let (papers, others) = (Papers::new(), Papers::new());
    let Some(server) = Server::redis() else {
        return;
    };
    let ca = format!(", client_ca = '{}'", papers.at("ca.crt"));
    let (_proxy, at) = private(&behind(&papers, &server, &ca), "");
    papers.issue("app", &["app"]);
    let mut client = connect(&papers, at, Some("app"));
    exchange(&mut client, &command(&["PING"]), b"+PONG\r\n");

    let refused = |mut client: Private, why: &str| {
        // With TLS 1.3 the client hears of it only when it reads.
        let said = client.write_all(&command(&["SET", "k", "v"]));
        let heard = said.and_then(|()| client.read(&mut [0; 8]));
        let heard = heard.unwrap_err().to_string();
        assert!(heard.contains(why), "{heard}");
    };
    refused(connect(&papers, at, None), "CertificateRequired");
    others.issue("app", &["app"]);
    std::fs::copy(papers.path("ca.crt"), others.path("ca.crt")).unwrap();
    refused(connect(&others, at, Some("app")), "UnknownCA");
    papers.issue_expired("old", &["app"]);
    refused(connect(&papers, at, Some("old")), "CertificateExpired");
    assert_eq!(server.client().call(&["DBSIZE"]), b":0\r\n");
}

#[test]
fn new_certificates_are_taken_up_as_they_come() {
    let papers = Papers::new();
    let Some(server) = Server::redis() else {
        return;
    };
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let status = format!("[status]\nbind = '{admin}'\n");
    let (proxy, at) = private(&behind(&papers, &server, ""), &status);
    let mut early = connect(&papers, at, None);
    exchange(&mut early, &command(&["PING"]), b"+PONG\r\n");
    let before = shown(&early);
    papers.issue("tls", &HERE);
    eventually("the new one is shown", || {
        let mut client = connect(&papers, at, None);
        exchange(&mut client, &command(&["PING"]), b"+PONG\r\n");
        shown(&client) != before
    });
    exchange(&mut early, &command(&["PING"]), b"+PONG\r\n");

    // What is no certificate is refused, and the last good one stays; also when
    // names are followed meanwhile, for which the same is built again.
    let good = {
        let mut client = connect(&papers, at, None);
        exchange(&mut client, &command(&["PING"]), b"+PONG\r\n");
        shown(&client)
    };
    std::fs::write(papers.path("tls.crt"), "nonsense").unwrap();
    proxy.signal("HUP");
    let refused = "emberline_config_last_reload_successful 0";
    eventually("it is refused", || {
        page(admin, "/metrics").contains(refused)
    });
    let mut client = connect(&papers, at, None);
    exchange(&mut client, &command(&["PING"]), b"+PONG\r\n");
    assert!(shown(&client) == good);

    // Files that are put right are seen, also one that cannot be read at once.
    std::fs::remove_file(papers.path("tls.crt")).unwrap();
    papers.issue("tls", &HERE);
    eventually("the newest is shown", || {
        let mut client = connect(&papers, at, None);
        exchange(&mut client, &command(&["PING"]), b"+PONG\r\n");
        shown(&client) != good
    });
    let done = "emberline_config_last_reload_successful 1";
    assert!(page(admin, "/metrics").contains(done));
}

#[test]
fn a_file_that_is_not_there_yet_is_waited_for() {
    let papers = Papers::new();
    let Some(server) = Server::redis() else {
        return;
    };
    let (proxy, at) = private(&behind(&papers, &server, ""), "");
    let before = {
        let mut client = connect(&papers, at, None);
        exchange(&mut client, &command(&["PING"]), b"+PONG\r\n");
        shown(&client)
    };
    let text = std::fs::read_to_string(proxy.file()).unwrap();
    proxy.rewrite(
        &text
            .replace("tls.crt", "late.crt")
            .replace("tls.key", "late.key"),
    );
    proxy.signal("HUP");
    // What else is named is no file at all, and hangs nobody.
    let made = Command::new("mkfifo").arg(papers.path("late.key")).status();
    assert!(made.unwrap().success());
    proxy.signal("HUP");
    std::fs::remove_file(papers.path("late.key")).unwrap();
    papers.issue("late", &HERE);
    eventually("it is taken up", || {
        let mut client = connect(&papers, at, None);
        exchange(&mut client, &command(&["PING"]), b"+PONG\r\n");
        shown(&client) != before
    });
}

#[test]
fn who_is_let_in_no_more_leaves() {
    let (papers, others) = (Papers::new(), Papers::new());
    let Some(server) = Server::redis() else {
        return;
    };
    let ca = format!(", client_ca = '{}'", papers.at("clients.crt"));
    std::fs::copy(papers.path("ca.crt"), papers.path("clients.crt")).unwrap();
    let (_proxy, at) = private(&behind(&papers, &server, &ca), "");
    papers.issue("app", &["app"]);
    let mut client = connect(&papers, at, Some("app"));
    exchange(&mut client, &command(&["PING"]), b"+PONG\r\n");
    std::fs::copy(others.path("ca.crt"), papers.path("clients.crt")).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "it is sent away");
    others.issue("app", &["app"]);
    std::fs::copy(papers.path("ca.crt"), others.path("ca.crt")).unwrap();
    let mut client = connect(&others, at, Some("app"));
    exchange(&mut client, &command(&["PING"]), b"+PONG\r\n");
}

#[test]
fn another_authority_is_another_server() {
    let (papers, others) = (Papers::new(), Papers::new());
    let Some((server, port)) = papers.redis() else {
        return;
    };
    let place = format!("127.0.0.1:{port}");
    let text = pool("redis", &place, &papers, "");
    let proxy = Emberline::config(&text);
    let mut client = proxy.client();
    let connects = |server: &Server| {
        let info = server.client().call(&["INFO", "stats"]);
        let info = String::from_utf8(info).unwrap();
        let line = info
            .lines()
            .find(|line| line.starts_with("total_connections_received:"));
        line.unwrap()
            .rsplit_once(':')
            .unwrap()
            .1
            .trim()
            .parse::<u64>()
            .unwrap()
    };
    assert_eq!(client.call(&["GET", "k"]), b"$-1\r\n");
    // A renewed certificate of our own is no reason to connect anew.
    papers.issue("me", &["me"]);
    let own = format!(
        ", certificate = '{}', key = '{}'",
        papers.at("me.crt"),
        papers.at("me.key")
    );
    proxy.rewrite(&pool("redis", &place, &papers, &own));
    proxy.signal("HUP");
    std::thread::sleep(Duration::from_millis(300));
    let before = connects(&server);
    assert_eq!(client.call(&["GET", "k"]), b"$-1\r\n");
    assert_eq!(connects(&server), before + 1, "the one that asks");
    proxy.rewrite(&pool("redis", &place, &others, &own));
    proxy.signal("HUP");
    eventually("nobody is believed", || {
        client.call(&["GET", "k"]).starts_with(b"-")
    });
}

#[test]
fn who_came_in_the_clear_leaves_when_that_ends() {
    let papers = Papers::new();
    let Some(server) = Server::redis() else {
        return;
    };
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let closed = behind(&papers, &server, "").replace("{}", &at.to_string());
    let tls = closed.lines().find(|line| line.starts_with("tls")).unwrap();
    let proxy = Emberline::config(&closed.replace(tls, ""));
    eventually("it listens", || TcpStream::connect(at).is_ok());
    let mut clear = Client::connect(at);
    assert_eq!(clear.call(&["SET", "k", "v"]), b"+OK\r\n");
    proxy.rewrite(&closed);
    proxy.signal("HUP");
    eventually("it must be TLS", || {
        let stream = TcpStream::connect(at).unwrap();
        drop(stream);
        let mut client = connect(&papers, at, None);
        client.write_all(&command(&["PING"])).is_ok() && client.read(&mut [0; 7]).is_ok()
    });
    assert_eq!(clear.try_reply(), Err(ErrorKind::UnexpectedEof));
    let mut client = connect(&papers, at, None);
    exchange(&mut client, &command(&["GET", "k"]), b"$1\r\nv\r\n");
}

#[test]
fn hot_keys_are_kept_fresh_in_private() {
    let papers = Papers::new();
    let Some((server, port)) = papers.redis() else {
        return;
    };
    let text = pool("redis", &format!("127.0.0.1:{port}"), &papers, "")
        + "[hotkey]\nalways = ['hot']\n[l1]\nmode = 'tracking'\nttl = '1h'\n";
    let proxy = Emberline::config(&text);
    let mut client = proxy.client();
    let mut direct = server.client();
    assert_eq!(direct.call(&["SET", "hot", "1"]), b"+OK\r\n");
    let calls = |direct: &mut Client| {
        let info = direct.call(&["INFO", "commandstats"]);
        let info = String::from_utf8(info).unwrap();
        let line = info.lines().find(|line| line.starts_with("cmdstat_get:"));
        line.map_or(0, |line| {
            let calls = line.split_once("calls=").unwrap().1;
            calls.split_once(',').unwrap().0.parse().unwrap()
        })
    };
    eventually("it is answered from memory", || {
        let before: u64 = calls(&mut direct);
        for _ in 0..100 {
            assert_eq!(client.call(&["GET", "hot"]), b"$1\r\n1\r\n");
        }
        calls(&mut direct) == before
    });
    assert_eq!(direct.call(&["SET", "hot", "2"]), b"+OK\r\n");
    eventually("the server's push arrives", || {
        client.call(&["GET", "hot"]) == b"$1\r\n2\r\n"
    });
}

#[test]
fn proxies_tell_each_other_in_private() {
    let papers = Papers::new();
    let (Some((server, _)), Some((_bus, port))) = (papers.redis(), papers.redis()) else {
        return;
    };
    let text = format!(
        "[listeners.main]\nprotocol = 'redis'\nbind = 'REDIS_BIND'\nroute = 'p'\n\
         [pools.p]\nprotocol = 'redis'\nservers = ['{}']\n\
         [hotkey]\nalways = ['hot']\n[l1]\nmode = 'ttl'\nttl = '1h'\n\
         [bus]\nserver = '127.0.0.1:{port}'\ntls = {{ ca = '{}' }}\n",
        server.address(),
        papers.at("ca.crt")
    );
    let (one, other) = (Emberline::config(&text), Emberline::config(&text));
    let (mut reader, mut writer) = (one.client(), other.client());
    let mut last = 0;
    // Before both are on the bus, what one has read is not ended by the other.
    eventually("the one hears of the other's write", || {
        last += 1;
        let value = last.to_string();
        assert_eq!(writer.call(&["SET", "hot", &value]), b"+OK\r\n");
        let expected = format!("${}\r\n{value}\r\n", value.len());
        reader.call(&["GET", "hot"]) == expected.as_bytes() && last > 20
    });
}

#[test]
fn a_pool_is_filled_from_one_in_private() {
    let papers = Papers::new();
    let (Some((from, port)), Some(to)) = (papers.redis(), Server::redis()) else {
        return;
    };
    let mut source = from.client();
    for number in 0..500 {
        assert_eq!(
            source.call(&["SET", &format!("k:{number}"), "v"]),
            b"+OK\r\n"
        );
    }
    let text = format!(
        "{}\n[pools.q]\nprotocol = 'redis'\nservers = ['{}']\n",
        pool("redis", &format!("127.0.0.1:{port}"), &papers, "")
            .replace("REDIS_BIND", "127.0.0.1:0"),
        to.address()
    );
    let file = papers.path("emberline.toml");
    std::fs::write(&file, text).unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_emberline"))
        .args(["warm", "--from", "p", "--to", "q", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    assert_eq!(to.client().call(&["DBSIZE"]), b":500\r\n");
}

#[test]
fn mistakes_are_shown_where_they_stand() {
    let (papers, others) = (Papers::new(), Papers::new());
    std::fs::write(papers.path("text"), "nonsense").unwrap();
    let listener = |tls: &str| {
        format!(
            "listeners.l = {{ protocol = 'redis', bind = '127.0.0.1:0', route = 'p', tls = {tls} }}\n\
             pools.p = {{ protocol = 'redis', servers = ['a:1'] }}\n"
        )
    };
    let pool = |tls: &str| {
        format!(
            "listeners.l = {{ protocol = 'redis', bind = '127.0.0.1:0', route = 'p' }}\n\
             pools.p = {{ protocol = 'redis', servers = ['a:1'], tls = {tls} }}\n"
        )
    };
    let (crt, key, text) = (
        papers.at("tls.crt"),
        papers.at("tls.key"),
        papers.at("text"),
    );
    let (ca, strange) = (papers.at("ca.crt"), others.at("tls.key"));
    let cases = [
        (listener("{}"), "`certificate` is missing"),
        (
            listener(&format!("{{ certificate = '{crt}' }}")),
            "`key` is missing",
        ),
        (
            listener(&format!("{{ certificate = '/no/where', key = '{key}' }}")),
            "cannot read the file /no/where",
        ),
        (
            listener(&format!("{{ certificate = '{text}', key = '{key}' }}")),
            "holds no certificate in PEM format",
        ),
        (
            listener(&format!("{{ certificate = '{crt}', key = '{text}' }}")),
            "holds no private key in PEM format",
        ),
        (
            listener(&format!("{{ certificate = '{crt}', key = '{strange}' }}")),
            "does not belong to the certificate",
        ),
        (
            listener(&format!(
                "{{ certificate = '{crt}', key = '{key}', client_ca = '{text}' }}"
            )),
            "holds no certificate",
        ),
        (
            listener(&format!(
                "{{ certificate = '{crt}', key = '{key}', ca = '{ca}' }}"
            )),
            "unknown key `ca`",
        ),
        (
            listener(&format!("{{ certificate = '{crt}', key = '{key}' }}"))
                .replace("127.0.0.1:0", "unix:/tmp/x"),
            "means nothing for a Unix socket",
        ),
        (pool("true"), "expected a table"),
        (pool("{ verify = false }"), "unknown key `verify`"),
        (
            pool(&format!("{{ ca = '{ca}', certificate = '{crt}' }}")),
            "belong together",
        ),
        (
            pool(&format!("{{ ca = '{ca}', server_name = 'a b' }}")),
            "is not a name that a certificate can be for",
        ),
        (pool("{ ca = '/dev/zero' }"), "is not a file"),
        (
            pool(&format!("{{ ca = '{ca}' }}")).replace("a:1", "unix:/tmp/x"),
            "means nothing for a Unix socket",
        ),
        (
            pool(&format!("{{ ca = '{ca}' }}"))
                .replace("servers = ['a:1']", "servers = ['a:1'], dns = 'expand'"),
            "takes its servers from DNS, which proves nothing",
        ),
    ];
    for (text, expected) in cases {
        let file = papers.path("emberline.toml");
        std::fs::write(&file, &text).unwrap();
        let checked = Command::new(env!("CARGO_BIN_EXE_emberline"))
            .args(["check", "-c"])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&checked.stdout).into_owned()
            + &String::from_utf8_lossy(&checked.stderr);
        assert_eq!(checked.status.code(), Some(78), "{text}\n{said}");
        assert!(said.contains(expected), "{expected}\n{said}");
        assert!(said.contains("emberline.toml:"), "no place: {said}");
    }
}
