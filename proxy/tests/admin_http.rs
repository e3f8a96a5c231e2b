//! The admin and status listeners, asked politely and otherwise.

#![allow(clippy::unwrap_used)]

mod admin_support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use admin_support::{ask, running, send, start, status};
use emberline::admin;
use emberline::delete_log::DeleteLogs;
use emberline::metrics::{Class, Shed, Verdict};
use emberline::running::Bind;
use emberline_routing::{PoolId, ServerId};
use serde_json::Value;

fn json(body: &str) -> Value {
    serde_json::from_str(body).unwrap()
}

#[test]
fn ready_means_bound_and_not_draining() {
    let site = start(running("r", 1, 2));
    for to in [site.admin(), site.status()] {
        assert_eq!(ask(to, "GET", "/healthz"), (200, "ok\n".to_owned()));
        let (code, why) = ask(to, "GET", "/readyz");
        assert_eq!(code, 503);
        assert!(why.starts_with("starting"), "{why}");
    }
    site.state.set_ready();
    assert_eq!(ask(site.status(), "GET", "/readyz").0, 200);
    assert_eq!(ask(site.admin(), "POST", "/drain").0, 200);
    let drained = (503, "draining\n".to_owned());
    assert_eq!(ask(site.status(), "GET", "/readyz"), drained);
}

#[test]
fn pools_and_stats_tell_what_the_meters_counted() {
    let site = start(running("r", 2, 2));
    for meter in &*site.state.view().meters {
        meter.clients(0, 3);
        meter.clients(0, -1);
        meter.bytes_in(0, 100);
        meter.request(0, Some(PoolId(1)), u16::MAX, Verdict::Ok);
        meter.request(0, None, u16::MAX, Verdict::Refused);
        meter.latency(PoolId(1), Class::Read, 1_000_000);
        meter.upstream(ServerId(2), Verdict::Ok);
        meter.upstream(ServerId(2), Verdict::Timeout);
        meter.upstream_inflight(ServerId(2), 5);
        meter.upstream_connect(ServerId(3), false);
        meter.shed(Shed::Memory);
    }
    site.state.view().meters[1].upstream_connect(ServerId(2), true);

    let pools = json(&ask(site.admin(), "GET", "/pools").1);
    let pool = &pools["pools"][1];
    assert_eq!(pool["name"], "pool-1");
    assert_eq!((&pool["requests"], &pool["errors"]), (&2.into(), &0.into()));
    assert_eq!(pool["latency"]["p99_ms"], 1.048576);
    let server = &pool["servers"][0];
    assert_eq!(server["state"], "up");
    assert_eq!(server["inflight"], 10);
    assert_eq!(server["requests"], 4);
    assert_eq!(server["timeouts"], 2);
    assert_eq!(pool["servers"][1]["state"], "down");
    assert_eq!(pools["pools"][0]["servers"][0]["state"], "unused");

    let stats = json(&ask(site.admin(), "GET", "/stats").1);
    assert_eq!(stats["listeners"][0]["clients"], 4);
    assert_eq!(stats["listeners"][0]["accepted"], 6);
    assert_eq!(stats["listeners"][0]["bytes_in"], 200);
    assert_eq!(stats["requests"]["ok"], 2);
    assert_eq!(stats["requests"]["refused"], 2);
    assert_eq!(stats["shed"]["memory"], 2);
    assert_eq!(stats["workers"], 2);
}

#[test]
fn config_shows_no_credentials() {
    let site = start(running("r", 1, 1));
    let (code, body) = ask(site.admin(), "GET", "/config");
    assert_eq!(code, 200);
    for secret in ["hunter2", "hunter3", "someone"] {
        assert!(!body.contains(secret), "{body}");
    }
    let config = json(&body);
    let pool = &config["pools"][0];
    assert_eq!(pool["password"], "[redacted]");
    assert_eq!(pool["l1"]["mode"], "observe");
    assert_eq!(pool["hotkey"]["threshold"], 1000);
    assert_eq!(config["key_visibility"], "hash");
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let site = start(running("r", 1, 1));
    let (code, page) = ask(site.admin(), "GET", "/");
    assert_eq!(code, 200);
    assert!(page.contains("<title>Emberline</title>"));
    for foreign in ["http://", "https://", "src=", "@import", "<link"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}

#[test]
fn the_status_listener_tells_no_more_than_it_should() {
    let site = start(running("r", 1, 1));
    for path in ["/", "/pools", "/config", "/stats", "/drain"] {
        assert_eq!(ask(site.status(), "GET", path).0, 404, "{path}");
        assert_eq!(ask(site.status(), "POST", path).0, 404, "{path}");
    }
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(ask(site.status(), "POST", path).0, 405, "{path}");
    }
    let foreign = b"GET /healthz HTTP/1.1\r\nHost: 10.1.2.3:9780\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&send(site.status(), foreign)), 200);
}

#[test]
fn a_mutation_is_not_a_get() {
    let site = start(running("r", 1, 1));
    site.state.set_ready();
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        assert_eq!(ask(site.admin(), method, "/drain").0, 405, "{method}");
    }
    assert_eq!(ask(site.admin(), "POST", "/pools").0, 405);
    assert_eq!(ask(site.admin(), "GET", "/readyz").0, 200);
}

#[test]
fn a_foreign_host_or_origin_is_refused() {
    let site = start(running("r", 1, 1));
    site.state.set_ready();
    let with = |method: &str, target: &str, headers: &str| {
        let head = format!("{method} {target} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
        status(&send(site.admin(), head.as_bytes()))
    };
    for headers in [
        "",
        "Host: evil.example\r\n",
        "Host: localhost.evil.example:9779\r\n",
        "Host: 192.0.2.1\r\n",
        "Host: localhost\r\nHost: evil.example\r\n",
        "Host:\r\n",
    ] {
        assert_eq!(with("GET", "/pools", headers), 403, "{headers:?}");
    }
    assert_eq!(
        with("GET", "http://evil.example/pools", "Host: localhost\r\n"),
        403
    );
    for headers in [
        "Host: localhost\r\n",
        "Host: 127.0.0.1:1\r\n",
        "Host: [::1]:9779\r\n",
    ] {
        assert_eq!(with("GET", "/pools", headers), 200, "{headers:?}");
    }
    for origin in [
        "http://evil.example",
        "null",
        "https://localhost.evil.example",
    ] {
        let headers = format!("Host: localhost\r\nOrigin: {origin}\r\n");
        assert_eq!(with("POST", "/drain", &headers), 403, "{origin}");
    }
    assert_eq!(ask(site.admin(), "GET", "/readyz").0, 200);
    let own = "Host: localhost\r\nOrigin: http://localhost:9779\r\n";
    assert_eq!(with("POST", "/drain", own), 200);
}

#[test]
fn huge_heads_are_refused() {
    let site = start(running("r", 1, 1));
    let mut long = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ".to_vec();
    long.resize(1 << 20, b'x');
    assert_eq!(status(&send(site.admin(), &long)), 431);

    let mut many = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n".to_vec();
    for i in 0..500 {
        many.extend(format!("X-{i}: 1\r\n").bytes());
    }
    many.extend(b"\r\n");
    assert_eq!(status(&send(site.admin(), &many)), 431);

    let mut path = b"GET /".to_vec();
    path.resize(1 << 20, b'x');
    assert!([414, 431].contains(&status(&send(site.admin(), &path))));
    assert_eq!(ask(site.admin(), "GET", "/healthz").0, 200);
}

#[test]
fn nobody_waits_for_a_body() {
    let site = start(running("r", 1, 1));
    let start = Instant::now();
    for (length, code) in [("20", 200), ("9999999999", 413)] {
        let head =
            format!("POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(
            status(&send(site.admin(), head.as_bytes())),
            code,
            "{length}"
        );
    }
    let chunked =
        b"POST /drain HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab";
    assert_eq!(status(&send(site.admin(), chunked)), 200);
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn slow_heads_are_cut_off_and_hurt_nobody_else() {
    let site = start(running("r", 1, 1));
    let start = Instant::now();
    let mut slow: Vec<_> = (0..32)
        .map(|_| {
            let mut stream = TcpStream::connect(site.admin()).unwrap();
            stream.write_all(b"GET /healthz HT").unwrap();
            stream
        })
        .collect();
    assert_eq!(ask(site.admin(), "GET", "/healthz").0, 200);
    assert_eq!(ask(site.status(), "GET", "/metrics").0, 200);
    assert!(start.elapsed() < Duration::from_secs(2));
    for stream in &mut slow {
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut rest = Vec::new();
        let closed = stream.read_to_end(&mut rest);
        let timed_out = closed.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!timed_out, "still open after {:?}", start.elapsed());
    }
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once() {
    let site = start(running("r", 1, 1));
    let idle: Vec<_> = (0..64)
        .map(|_| TcpStream::connect(site.admin()).unwrap())
        .collect();
    let mut one_more = TcpStream::connect(site.admin()).unwrap();
    one_more
        .set_read_timeout(Some(Duration::from_secs(3)))
        .unwrap();
    let mut answer = Vec::new();
    let closed = one_more.read_to_end(&mut answer);
    assert!(closed.is_ok_and(|n| n == 0));
    drop(idle);
    let patience = Instant::now() + Duration::from_secs(10);
    while send(
        site.admin(),
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    .is_empty()
    {
        assert!(
            Instant::now() < patience,
            "the places of closed connections are not given back"
        );
    }
}

#[test]
fn what_is_not_http_gets_an_answer_or_a_close() {
    let site = start(running("r", 1, 1));
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for bytes in [
        &b"*1\r\n$4\r\nPING\r\n"[..],
        b"get x\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET\r\n\r\n",
        hello,
    ] {
        let answer = send(site.admin(), bytes);
        assert!(answer.is_empty() || status(&answer) >= 400, "{answer:?}");
    }
    assert_eq!(ask(site.admin(), "GET", "/healthz").0, 200);
}

#[test]
fn a_unix_socket_serves_and_leaves_nothing_behind() {
    let directory = std::env::temp_dir().join(format!("emberline-admin-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("admin.sock");
    // A process that was killed leaves its file.
    drop(UnixListener::bind(&path).unwrap());

    let mut config = running("r", 1, 1);
    config.admin = Some(Bind::Unix(path.clone()));
    let site = start(config);
    site.state.set_ready();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(status(&answer), 200);

    let mut second = running("r", 1, 1);
    second.admin = Some(Bind::Unix(path.clone()));
    let (l1, _) = emberline::l1::L1::new(&second);
    let state = admin::State::new(
        second.into(),
        Vec::new(),
        l1,
        DeleteLogs::default(),
        std::time::SystemTime::now(),
    );
    let error = admin::spawn(state.into()).unwrap_err().to_string();
    assert!(
        error.contains("admin.sock: another process listens there"),
        "{error}"
    );

    drop(site);
    assert!(!path.exists());
    std::fs::remove_dir(&directory).unwrap();
}

#[test]
fn a_taken_port_is_a_clear_error() {
    let site = start(running("r", 1, 1));
    let mut second = running("r", 1, 1);
    second.status = Some(Bind::Tcp(site.status()));
    let (l1, _) = emberline::l1::L1::new(&second);
    let state = admin::State::new(
        second.into(),
        Vec::new(),
        l1,
        DeleteLogs::default(),
        std::time::SystemTime::now(),
    );
    let error = admin::spawn(state.into()).unwrap_err().to_string();
    let wanted = format!("status listener cannot bind to {}", site.status());
    assert!(error.starts_with(&wanted), "{error}");
}
