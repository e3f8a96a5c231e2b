//! `[bus]`.

use schemars::JsonSchema;

use super::pool::Written;
use super::tls::ServerTls;
use crate::config::credentials::Password;
use crate::config::read::{At, Fields, Reader};

/// The default of `channel`.
pub const CHANNEL: &str = "emberline";

/// A Redis server whose publish and subscribe tells several proxies what was
/// written through one of them. It shortens the time that others answer with
/// an old value; the promise stays that of the mode, since a message may be
/// lost. There is none unless this table is there.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct BusTable {
    /// Where it is: `host:port`, `[v6]:port` or `unix:/path`. It sees one
    /// small message for every write through any of the proxies, so it is
    /// better not a server that is busy.
    #[schemars(required, with = "String")]
    pub server: Option<At<Written>>,
    /// The channel, at most 256 bytes. Default "emberline". Proxies hear each
    /// other only with the same name, and should only if their pools are
    /// named alike.
    #[schemars(with = "Option<String>", extend("default" = CHANNEL))]
    pub channel: Option<At<String>>,
    /// The user for AUTH. Default: none. Wants a password.
    #[schemars(with = "Option<String>")]
    pub username: Option<At<String>>,
    /// The password for AUTH. Default: none. Written here it is readable by
    /// whoever reads the file: prefer `password_file` or `password_env`.
    #[schemars(with = "Option<String>")]
    pub password: Option<At<String>>,
    /// A file that holds the password; a line break at its end is left out.
    /// Relative paths start from this file's directory.
    #[schemars(with = "Option<String>")]
    pub password_file: Option<At<String>>,
    /// The environment variable that holds the password.
    #[schemars(with = "Option<String>")]
    pub password_env: Option<At<String>>,
    /// Whom to believe that it is the server, which speaks TLS then. Default:
    /// none, in the clear.
    pub tls: Option<ServerTls>,
}

impl BusTable {
    pub(super) fn read(mut fields: Fields<'_, '_>, reader: &mut Reader<'_>) -> BusTable {
        let server = fields.required(reader, "server");
        let channel = fields.optional(reader, "channel");
        let username = fields.optional(reader, "username");
        let password = Password::read(&mut fields, reader);
        let tls = ServerTls::read(&mut fields, reader);
        fields.finish(reader);
        BusTable {
            server,
            channel,
            username,
            password: password.inline,
            password_file: password.file,
            password_env: password.env,
            tls,
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
