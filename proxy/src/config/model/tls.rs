//! `tls` of a listener, and of whatever is connected to.

use std::ops::Range;

use schemars::JsonSchema;

use crate::config::read::{At, Fields, Reader};

/// What clients are shown. The files are PEM, and are followed while the
/// process runs: new connections see what is in them then. Relative paths start
/// from this file's directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ListenerTls {
    /// The listener's certificate, and behind it in the same file those that
    /// lead from it to an authority that its clients know.
    #[schemars(required, with = "String")]
    pub certificate: Option<At<String>>,
    /// The private key that belongs to it: PKCS #8, PKCS #1 or SEC 1, without
    /// a passphrase.
    #[schemars(required, with = "String")]
    pub key: Option<At<String>>,
    /// Clients must have a certificate of one of the authorities in this file.
    /// Default: none is asked for.
    #[schemars(with = "Option<String>")]
    pub client_ca: Option<At<String>>,
    /// Where the table stands.
    #[schemars(skip)]
    pub span: Range<usize>,
}

/// Whom to believe that it is the server, and what to show it. The files are
/// PEM, and are followed while the process runs. Relative paths start from this
/// file's directory. A server's certificate is always checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ServerTls {
    /// The authorities that servers' certificates come from. Default: those
    /// that this machine trusts.
    #[schemars(with = "Option<String>")]
    pub ca: Option<At<String>>,
    /// The name that is asked for and must stand in a server's certificate.
    /// Default: its host, as it is written in `servers`. With `dns = "expand"`
    /// that would be an IP address, so it is needed there in most cases.
    #[schemars(with = "Option<String>")]
    pub server_name: Option<At<String>>,
    /// Our own certificate, for servers that want one, and those that lead
    /// from it to an authority. Default: none.
    #[schemars(with = "Option<String>")]
    pub certificate: Option<At<String>>,
    /// The private key that belongs to it: PKCS #8, PKCS #1 or SEC 1, without
    /// a passphrase.
    #[schemars(with = "Option<String>")]
    pub key: Option<At<String>>,
    /// Where the table stands.
    #[schemars(skip)]
    pub span: Range<usize>,
}

impl ListenerTls {
    pub(super) fn read(
        fields: &mut Fields<'_, '_>,
        reader: &mut Reader<'_>,
    ) -> Option<ListenerTls> {
        let (mut inner, span) = inner(fields, reader)?;
        let table = ListenerTls {
            certificate: inner.required(reader, "certificate"),
            key: inner.required(reader, "key"),
            client_ca: inner.optional(reader, "client_ca"),
            span,
        };
        inner.finish(reader);
        Some(table)
    }

    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = &At<String>> {
        let files = [&self.certificate, &self.key, &self.client_ca];
        files.into_iter().flatten()
    }
}

impl ServerTls {
    pub(super) fn read(fields: &mut Fields<'_, '_>, reader: &mut Reader<'_>) -> Option<ServerTls> {
        let (mut inner, span) = inner(fields, reader)?;
        let table = ServerTls {
            ca: inner.optional(reader, "ca"),
            server_name: inner.optional(reader, "server_name"),
            certificate: inner.optional(reader, "certificate"),
            key: inner.optional(reader, "key"),
            span,
        };
        inner.finish(reader);
        Some(table)
    }

    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = &At<String>> {
        let files = [&self.ca, &self.certificate, &self.key];
        files.into_iter().flatten()
    }
}

fn inner<'t, 'i>(
    fields: &mut Fields<'t, 'i>,
    reader: &mut Reader<'_>,
) -> Option<(Fields<'t, 'i>, Range<usize>)> {
    let (table, span) = fields.table(reader, "tls")?;
    let title = format!("[{}]", fields.inner("tls"));
    Some((Fields::new(table, span.clone(), title), span))
}
