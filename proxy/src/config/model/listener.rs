//! `[listeners.NAME]`.

use schemars::JsonSchema;

use super::Child;
use super::routes::read_child;
use super::tls::ListenerTls;
use crate::config::credentials::Password;
use crate::config::read::{At, Fields, Reader};
use crate::config::words::word_schema;
use crate::running::{Bind, Protocol};

/// A place where clients connect.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Listener {
    /// What its clients speak: "redis" (RESP2 and RESP3) or "memcached" (text
    /// and meta, told apart by their bytes).
    #[schemars(required, schema_with = "word_schema::<Protocol>")]
    pub protocol: Option<At<Protocol>>,
    /// Where it listens: `host:port`, `[v6]:port` or `unix:/path`. The host
    /// is an IP address; "0.0.0.0" is every one that this machine has, and
    /// wants a password or a network that is trusted.
    #[schemars(required, with = "String")]
    pub bind: Option<At<Bind>>,
    /// Where its requests go: the name of a pool or of a route, or a route in
    /// place.
    #[schemars(required)]
    pub route: Option<Child>,
    /// The password that Redis clients must give with AUTH or HELLO. Default:
    /// none. Written here it is readable by whoever reads the file: prefer
    /// `password_file` or `password_env`.
    #[schemars(with = "Option<String>")]
    pub password: Option<At<String>>,
    /// A file that holds the password; a line break at its end is left out.
    /// Relative paths start from this file's directory.
    #[schemars(with = "Option<String>")]
    pub password_file: Option<At<String>>,
    /// The environment variable that holds the password.
    #[schemars(with = "Option<String>")]
    pub password_env: Option<At<String>>,
    /// What clients are shown, who speak TLS then. Default: none, and they
    /// speak in the clear.
    pub tls: Option<ListenerTls>,
    /// Commands to let through although they are denied by default, such as
    /// "debug" or "config set". Default: none. SHUTDOWN cannot be allowed.
    #[schemars(default, with = "Vec<String>")]
    pub allow: Vec<At<String>>,
    /// Commands to refuse, such as "flushall" or "flush_all". Default: none.
    #[schemars(default, with = "Vec<String>")]
    pub deny: Vec<At<String>>,
}

impl Listener {
    pub(super) fn read(mut fields: Fields<'_, '_>, reader: &mut Reader<'_>) -> Listener {
        let protocol = fields.required(reader, "protocol");
        let bind = fields.required(reader, "bind");
        let title = fields.title.trim_matches(['[', ']']).to_owned();
        let route = match fields.raw("route") {
            Some(value) => read_child(value, &title, 0, reader),
            None => {
                fields.missing(reader, "route", "the name of a pool or a route".to_owned());
                None
            }
        };
        let password = Password::read(&mut fields, reader);
        let tls = ListenerTls::read(&mut fields, reader);
        let mut commands = |key| match fields.raw(key) {
            Some(value) => reader.list::<String>(value, key),
            None => Vec::new(),
        };
        let (allow, deny) = (commands("allow"), commands("deny"));
        fields.finish(reader);
        Listener {
            protocol,
            bind,
            route,
            password: password.inline,
            password_file: password.file,
            password_env: password.env,
            tls,
            allow,
            deny,
        }
    }

    /// The three ways to give the password.
    pub fn credentials(&self) -> Password {
        Password {
            inline: self.password.clone(),
            file: self.password_file.clone(),
            env: self.password_env.clone(),
        }
    }
}
