//! Authorities and certificates for tests, made when they are needed and valid
//! only here.
//!
//! ```text
//!   let papers = Papers::new();          ca.crt, tls.crt, tls.key
//!   papers.issue("client", &["app"]);    client.crt, client.key
//! ```

#![allow(
    dead_code,
    unused_imports,
    reason = "each test binary uses a part of it"
)]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

use super::support::{Server, TempDir};

/// The names of servers here.
pub const HERE: [&str; 2] = ["127.0.0.1", "localhost"];

/// An authority, and the files that it has issued.
pub struct Papers {
    issuer: Issuer<'static, KeyPair>,
    dir: TempDir,
}

impl Papers {
    /// An authority (`ca.crt`) with one certificate (`tls.crt`, `tls.key`) for
    /// servers here.
    pub fn new() -> Papers {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Who has another key is another authority.
        let number = key.public_key_raw()[1..9].escape_ascii().to_string();
        called(&mut params, &format!("authority {number}"));
        let certificate = params.self_signed(&key).unwrap();
        let papers = Papers {
            issuer: Issuer::new(params, key),
            dir: TempDir::new(),
        };
        std::fs::write(papers.path("ca.crt"), certificate.pem()).unwrap();
        papers.issue("tls", &HERE);
        papers
    }

    /// Where a file of that name is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same, as a configuration or an argument has it.
    pub fn at(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// `NAME.crt` and `NAME.key`, for these names; put in the place of files
    /// that are there.
    pub fn issue(&self, name: &str, names: &[&str]) {
        self.write(name, names, |_| ());
    }

    /// The same, of no use since years.
    pub fn issue_expired(&self, name: &str, names: &[&str]) {
        self.write(name, names, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        });
    }

    fn write(&self, name: &str, names: &[&str], change: impl Fn(&mut CertificateParams)) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        called(&mut params, name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        for (kind, text) in [("crt", certificate.pem()), ("key", key.serialize_pem())] {
            let draft = self.path(&format!("{name}.{kind}.new"));
            std::fs::write(&draft, text).unwrap();
            std::fs::rename(draft, self.path(&format!("{name}.{kind}"))).unwrap();
        }
    }

    /// Replace the directory where examples have their files by that of these.
    pub fn fill_in(&self, text: &str) -> String {
        let dir = self.dir.path().display();
        text.replace("/etc/emberline/tls", &dir.to_string())
    }

    /// A redis-server that speaks TLS, beside the clear; and where.
    pub fn redis(&self) -> Option<(Server, u16)> {
        let port = super::support::free_port();
        let (ca, certificate, key) = (self.at("ca.crt"), self.at("tls.crt"), self.at("tls.key"));
        let server = Server::redis_with(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca,
            "--tls-auth-clients",
            "optional",
        ])?;
        Some((server, port))
    }

    /// A memcached that speaks TLS, beside the clear; and where.
    pub fn memcached(&self) -> Option<(Server, u16)> {
        let port = super::support::free_port();
        let files = format!(
            "ssl_chain_cert={},ssl_key={}",
            self.at("tls.crt"),
            self.at("tls.key")
        );
        let place = format!("127.0.0.1:{port}");
        let server = Server::memcached_with(&["-Z", "-o", &files, "-l", &place, "-I", "16m"])?;
        Some((server, port))
    }
}

/// Two of one name would be one, and so would be who issues and what is issued.
fn called(params: &mut CertificateParams, name: &str) {
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
}
