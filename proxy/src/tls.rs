//! TLS: what a listener shows those who connect to it, and whom a pool takes
//! for its servers.
//!
//! Versions 1.2 and 1.3, with the ciphers that rustls offers by itself. There
//! is no way to leave out the check of a server's certificate: who does not
//! want it can do without TLS. Nothing is read from disk here but the system's
//! own list of authorities; files are the business of `config`.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;

use rustls::client::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::{ClientConnection, RootCertStore, ServerConnection, server};
use tokio::net::TcpStream;
use tokio_rustls::{Accept, TlsAcceptor, TlsConnector};

use crate::running::Address;

/// A stream with TLS on it, whichever end is ours.
pub type Stream = tokio_rustls::TlsStream<TcpStream>;

/// Bytes that are kept of one connection, in TLS's own form, while the other end
/// takes nothing.
const BUFFER_MAX: usize = 32 * 1024;

/// The contents of a PEM file, and what to call it in errors.
#[derive(Clone)]
pub struct Pem {
    /// The file's path.
    pub name: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// What is wrong with what TLS was to be made of, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The certificate, or its chain.
    #[error("{0}")]
    Certificate(String),
    /// The private key.
    #[error("{0}")]
    Key(String),
    /// Those whose certificates are believed.
    #[error("{0}")]
    Authorities(String),
    /// The name that a certificate is to be for.
    #[error("{0}")]
    Name(String),
}

/// Who somebody is, and how they prove it.
#[derive(Clone)]
pub struct Identity {
    /// Their certificate, and behind it those that lead to an authority.
    pub certificate: Pem,
    /// The private key that belongs to it: PKCS #8, PKCS #1 or SEC 1.
    pub key: Pem,
}

/// What clients of a listener are shown.
#[derive(Clone)]
pub struct Acceptor {
    config: TlsAcceptor,
    admits: Option<u64>,
    print: u64,
}

/// How a pool's servers are told from others.
#[derive(Clone)]
pub struct Connector {
    config: TlsConnector,
    name: Option<ServerName<'static>>,
    believes: u64,
    print: u64,
}

impl Acceptor {
    /// Show this identity; with `authorities`, admit those clients only that
    /// have a certificate of theirs.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn new(identity: &Identity, authorities: Option<&Pem>) -> Result<Acceptor, Flaw> {
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| identity.blame(&error))?;
        let builder = match authorities {
            None => builder.with_no_client_auth(),
            Some(pem) => builder.with_client_cert_verifier(verifier(pem, provider)?),
        };
        let (chain, key) = identity.read()?;
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| identity.blame(&error))?;
        // Who returns is known again by a ticket, of which nothing is kept.
        config.ticketer = Ticketer::new().map_err(|error| identity.blame(&error))?;
        Ok(Acceptor {
            config: TlsAcceptor::from(Arc::new(config)),
            admits: authorities.map(|pem| print(&pem.bytes)),
            print: print(&(identity.bytes(), authorities.map(|pem| &pem.bytes))),
        })
    }

    /// Stands for those whose certificates clients must have, if they must.
    pub fn admits(&self) -> Option<u64> {
        self.admits
    }

    /// Begin as the server's end.
    pub fn accept(&self, stream: TcpStream) -> Accept<TcpStream> {
        let bound = |session: &mut ServerConnection| session.set_buffer_limit(Some(BUFFER_MAX));
        self.config.accept_with(stream, bound)
    }
}

impl Connector {
    /// Believe servers that have a certificate of `authorities`, by default of
    /// those that the system trusts, for `name`, by default for the host that
    /// is connected to. Show them this identity if they ask for one.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn new(
        authorities: Option<&Pem>,
        name: Option<&str>,
        identity: Option<&Identity>,
    ) -> Result<Connector, Flaw> {
        let certificates = match authorities {
            Some(pem) => certificates(pem).map_err(Flaw::Authorities)?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        let believes = print(&(&certificates, name));
        let roots = match authorities {
            Some(pem) => roots(pem, certificates)?,
            None => roots_of_the_system(certificates)?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Flaw::Authorities(error.to_string()))?
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.read()?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| identity.blame(&error))?
            }
        };
        Ok(Connector {
            config: TlsConnector::from(Arc::new(config)),
            name: name.map(server_name).transpose().map_err(Flaw::Name)?,
            believes,
            print: print(&(believes, identity.map(Identity::bytes))),
        })
    }

    /// Make sure that the server at `address` is whom we mean, and talk in
    /// private.
    ///
    /// # Errors
    /// Whatever the socket says; `InvalidData` if the server is not believed.
    pub async fn connect(&self, stream: TcpStream, address: &Address) -> io::Result<Stream> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => name_of(address)
                .map_err(|message| io::Error::new(io::ErrorKind::InvalidInput, message))?,
        };
        let bound = |session: &mut ClientConnection| session.set_buffer_limit(Some(BUFFER_MAX));
        let connected = self.config.connect_with(name, stream, bound).await?;
        Ok(Stream::from(connected))
    }

    /// Stands for whom it believes: a connection that one has made is as good
    /// as one of another that believes the same, whatever it has shown.
    pub fn believes(&self) -> u64 {
        self.believes
    }
}

/// The name that the certificate of a server at `address` is for.
fn name_of(address: &Address) -> Result<ServerName<'static>, String> {
    match address {
        Address::Ip(address) => Ok(ServerName::from(address.ip())),
        Address::Name { host, .. } => server_name(host.trim_end_matches('.')),
        Address::Unix(_) => Err("a Unix socket has no name that a certificate is for".to_owned()),
    }
}

/// A name that a certificate may be for.
///
/// # Errors
/// When there cannot be one.
fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(text.to_owned())
        .map_err(|_| format!("\"{text}\" is not a name that a certificate can be for"))
}

impl Identity {
    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Flaw> {
        let chain = certificates(&self.certificate).map_err(Flaw::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key.bytes).map_err(|error| {
            let name = &self.key.name;
            Flaw::Key(match error {
                pem::Error::NoItemsFound => {
                    format!("{name} holds no private key in PEM format, or one behind a passphrase")
                }
                error => format!("{name} is not PEM: {error}"),
            })
        })?;
        Ok((chain, key))
    }

    /// Which of the two is at fault, as far as can be told.
    fn blame(&self, error: &rustls::Error) -> Flaw {
        let (certificate, key) = (&self.certificate.name, &self.key.name);
        match error {
            rustls::Error::InconsistentKeys(_) => Flaw::Key(format!(
                "the key in {key} does not belong to the certificate in {certificate}"
            )),
            error => Flaw::Certificate(format!("{certificate} and {key} are of no use: {error}")),
        }
    }

    fn bytes(&self) -> (&[u8], &[u8]) {
        (&self.certificate.bytes, &self.key.bytes)
    }
}

fn verifier(
    authorities: &Pem,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn server::danger::ClientCertVerifier>, Flaw> {
    let certificates = certificates(authorities).map_err(Flaw::Authorities)?;
    let roots = Arc::new(roots(authorities, certificates)?);
    WebPkiClientVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| Flaw::Authorities(format!("{}: {error}", authorities.name)))
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.bytes).collect();
    match read {
        Ok(none) if none.is_empty() => {
            Err(format!("{} holds no certificate in PEM format", pem.name))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(format!("{} is not PEM: {error}", pem.name)),
    }
}

fn roots(pem: &Pem, certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, Flaw> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| {
            let message = format!("{} holds a certificate of no use: {error}", pem.name);
            Flaw::Authorities(message)
        })?;
    }
    Ok(roots)
}

/// Of what the system trusts, what rustls understands.
fn roots_of_the_system(found: Vec<CertificateDer<'static>>) -> Result<RootCertStore, Flaw> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found);
    match roots.is_empty() {
        true => Err(Flaw::Authorities(
            "this machine has no list of authorities that it trusts: name one as `ca`".to_owned(),
        )),
        false => Ok(roots),
    }
}

/// Tells what was made of these from what was made of others.
fn print(made_of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    made_of.hash(&mut hasher);
    hasher.finish()
}

impl PartialEq for Acceptor {
    fn eq(&self, other: &Acceptor) -> bool {
        self.print == other.print
    }
}

impl Eq for Acceptor {}

impl PartialEq for Connector {
    fn eq(&self, other: &Connector) -> bool {
        self.print == other.print
    }
}

impl Eq for Connector {}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}
