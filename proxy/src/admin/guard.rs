//! Was this request meant for us?
//!
//! A web page on another site can make its reader's browser send requests to
//! the reader's own machine. It cannot forge the `Host` header: either that
//! names the page's site (which then resolves to our address, an attack known
//! as DNS rebinding), and the request is refused; or it names us, and then
//! the browser keeps the answer from the page and adds an `Origin` to
//! whatever could change something, which is refused as well.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Bytes of a body that a request may announce. No endpoint reads one.
const BODY_MAX: u64 = 64 * 1024;

/// The address that a connection came in at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guard {
    pub(super) at: IpAddr,
}

/// Refuse what was meant for others, and what is too big to be meant well.
pub(super) async fn check(
    State(guard): State<Option<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(guard) = guard
        && let Err(why) = guard.admit(request.method(), request.uri(), request.headers())
    {
        return (StatusCode::FORBIDDEN, format!("{why}\n")).into_response();
    }
    if announced(request.headers()) > BODY_MAX {
        let close = [(header::CONNECTION, "close")];
        return (
            StatusCode::PAYLOAD_TOO_LARGE,
            close,
            "the body is too large\n",
        )
            .into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    response
}

fn announced(headers: &HeaderMap) -> u64 {
    headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(0)
}

impl Guard {
    fn admit(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), &'static str> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok());
        if hosts.next().is_some() || !host.is_some_and(|host| self.is_us(host)) {
            return Err("the Host header names another machine; use localhost or this address");
        }
        if uri
            .authority()
            .is_some_and(|host| !self.is_us(host.as_str()))
        {
            return Err("the request line names another machine");
        }
        let reads = method == Method::GET || method == Method::HEAD;
        match headers.get(header::ORIGIN) {
            Some(origin) if !reads && !origin.to_str().is_ok_and(|o| self.is_origin(o)) => {
                Err("a page of another site may not change anything here")
            }
            _ => Ok(()),
        }
    }

    fn is_origin(&self, origin: &str) -> bool {
        origin
            .strip_prefix("http://")
            .is_some_and(|host| self.is_us(host))
    }

    /// `localhost`, a loopback address or the address of this connection,
    /// with any port: a forwarded port differs from ours.
    fn is_us(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else {
            return false;
        };
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let literal = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .unwrap_or(name);
        literal
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback() || ip.to_canonical() == self.at.to_canonical())
    }
}

/// The host of `host`, `host:port`, `[v6]` or `[v6]:port`.
fn without_port(host: &str) -> Option<&str> {
    let end = match host.rfind(']') {
        Some(bracket) => bracket + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at(end);
    let good = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|port| port.parse::<u16>().is_ok());
    good.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_us() {
        let guard = Guard {
            at: "192.0.2.7".parse().unwrap(),
        };
        for host in [
            "localhost",
            "LocalHost:9779",
            "127.0.0.1",
            "127.8.9.1:80",
            "[::1]",
            "[::1]:9779",
            "192.0.2.7:9779",
            "[::ffff:192.0.2.7]:1",
        ] {
            assert!(guard.is_us(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9779",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.0.2.8",
            "localhost:x",
            "localhost@evil.example",
            "[::1",
            "[::1]evil",
            "[::1].evil.example:1",
        ] {
            assert!(!guard.is_us(host), "{host}");
        }
    }
}
