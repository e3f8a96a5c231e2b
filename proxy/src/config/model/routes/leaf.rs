//! Routes that answer by themselves: `null` and `error`. Both words may also
//! stand where a name may.

use schemars::JsonSchema;

use super::fields::RouteFields;
use super::{Child, RouteSpec};

/// The default of `message`.
pub const MESSAGE: &str = "refused by the proxy's configuration";
/// The longest `message`, in bytes.
const MESSAGE_MAX: usize = 200;

/// Reads find nothing, and writes are answered as if they had not been done.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Null {}

/// Every request gets an error.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Error {
    /// What the error says, 1 to 200 bytes on one line. Default "refused by
    /// the proxy's configuration".
    #[schemars(with = "Option<String>", extend("default" = MESSAGE))]
    pub message: String,
}

impl Default for Error {
    fn default() -> Error {
        Error {
            message: MESSAGE.to_owned(),
        }
    }
}

impl RouteSpec for Null {
    const SCHEMA: &'static str = "NullRoute";

    fn read(_: &mut RouteFields<'_, '_, '_, '_>) -> Null {
        Null {}
    }

    fn children(&self) -> Vec<&Child> {
        Vec::new()
    }
}

impl RouteSpec for Error {
    const SCHEMA: &'static str = "ErrorRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> Error {
        let message = fields.fields.optional::<String>(fields.reader, "message");
        let Some(message) = message else {
            return Error::default();
        };
        let length = message.value.len();
        // A line break would end the reply and begin another.
        if message.value.chars().any(char::is_control) {
            fields.error(&message.span, "`message` has control characters");
        }
        if length == 0 || length > MESSAGE_MAX {
            let text = format!("`message` has {length} bytes, expected 1 to {MESSAGE_MAX}");
            fields.error(&message.span, text);
        }
        Error {
            message: message.value,
        }
    }

    fn children(&self) -> Vec<&Child> {
        Vec::new()
    }
}
