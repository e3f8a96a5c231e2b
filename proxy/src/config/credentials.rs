//! Passwords: written inline, in a file, or in an environment variable.

use super::Environment;
use super::files;
use super::read::{At, Fields, Reader};
use super::report::Report;
use crate::running::Secret;

/// The three ways to give a password; at most one may be used.
#[derive(Clone, Default)]
pub struct Password {
    /// The password itself.
    pub inline: Option<At<String>>,
    /// The path of a file that holds it.
    pub file: Option<At<String>>,
    /// The environment variable that holds it.
    pub env: Option<At<String>>,
}

/// More than any password; what is longer is the wrong file.
const FILE_MAX: u64 = 64 << 10;

impl Password {
    pub(super) fn read(fields: &mut Fields<'_, '_>, reader: &mut Reader<'_>) -> Password {
        Password {
            inline: fields.optional(reader, "password"),
            file: fields.optional(reader, "password_file"),
            env: fields.optional(reader, "password_env"),
        }
    }

    /// The key that was given, for checks that it makes sense at all.
    pub(super) fn given(&self) -> Option<(&'static str, &At<String>)> {
        let inline = self.inline.as_ref().map(|at| ("password", at));
        let file = self.file.as_ref().map(|at| ("password_file", at));
        inline
            .or(file)
            .or(self.env.as_ref().map(|at| ("password_env", at)))
    }

    /// Fetch the password from where it is.
    pub(super) fn resolve(
        &self,
        environment: &Environment<'_>,
        report: &mut Report,
    ) -> Option<Secret> {
        let all = [&self.inline, &self.file, &self.env];
        let mut given = all.into_iter().flatten();
        let (Some(first), second) = (given.next(), given.next()) else {
            return None;
        };
        if let Some(second) = second {
            let message = "only one of `password`, `password_file` and `password_env` may be given";
            report.error(&second.span, message);
            return None;
        }
        let found = if self.inline.is_some() {
            report.warning_hint(
                &first.span,
                "a password in the file is readable by whoever reads the file",
                "prefer `password_file` or `password_env`",
            );
            Ok(first.value.clone())
        } else if self.file.is_some() {
            from_file(&first.value, environment)
        } else {
            let variable = (environment.variable)(&first.value);
            variable.ok_or_else(|| format!("the environment variable {} is not set", first.value))
        };
        match found {
            Ok(password) if password.is_empty() => {
                report.error(&first.span, "the password is empty");
                None
            }
            Ok(password) => Some(Secret::new(password)),
            Err(message) => {
                report.error(&first.span, message);
                None
            }
        }
    }
}

fn from_file(path: &str, environment: &Environment<'_>) -> Result<String, String> {
    let full = files::full_path(path, environment);
    let bytes = environment
        .files
        .read(&full, FILE_MAX, "the password file")?;
    let text = String::from_utf8(bytes)
        .map_err(|_| format!("{} is not a text in UTF-8", full.display()))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}
