//! One request being answered.

use emberline_protocol::redis::{Command, Version, encode};

use super::super::{Context, Then};
use super::{Session, refuse};

/// A request whose number of arguments suits the command, and where its
/// answer goes.
pub(super) struct Call<'a> {
    pub command: &'static Command,
    /// With the name; for a container, at least the subcommand follows unless
    /// the container may stand alone.
    pub args: &'a [&'a [u8]],
    pub session: &'a mut Session,
    pub context: &'a Context<'a>,
    pub out: &'a mut Vec<u8>,
    /// Whether what was written is dropped in the end.
    pub muted: bool,
    pub then: Then,
}

impl Call<'_> {
    pub fn version(&self) -> Version {
        self.session.version
    }

    pub fn ok(&mut self) {
        encode::simple(self.out, "OK");
    }

    pub fn error(&mut self, text: &str) {
        encode::error(self.out, text);
    }

    pub fn syntax_error(&mut self) {
        self.error("ERR syntax error");
    }

    /// Refuse what only a server could do, naming it and saying why.
    pub fn refuse(&mut self, why: &str) {
        let mut name = self.command.name.to_ascii_uppercase();
        if !self.command.subcommands.is_empty()
            && let Some(word) = self.args.get(1)
        {
            name.push(' ');
            name.push_str(&String::from_utf8_lossy(word).to_ascii_uppercase());
        }
        self.error(&format!("ERR {name} is refused by this proxy: {why}"));
    }

    /// An array of status lines, as help and lists of flags are.
    pub fn lines(&mut self, lines: &[&str]) {
        encode::array(self.out, lines.len());
        for line in lines {
            encode::simple(self.out, line);
        }
    }

    /// The container's subcommand that this request names, in lower case and
    /// with a suitable number of arguments; otherwise the error is answered.
    pub fn subcommand(&mut self) -> Option<&'static str> {
        let Some(found) = self.command.subcommand(self.args[1]) else {
            refuse::unknown_subcommand(self.command, self.args[1], self.out);
            return None;
        };
        if !suits(found.arity, self.args.len()) {
            refuse::arity(found.name, self.out);
            return None;
        }
        found.name.split('|').nth(1)
    }

    /// A whole number, or the error that Redis gives when it is none.
    pub fn integer(&mut self, i: usize) -> Option<i64> {
        let number = integer(self.args[i]);
        if number.is_none() {
            self.error("ERR value is not an integer or out of range");
        }
        number
    }
}

/// Whether this many arguments suit an arity, as `arity_ok` says for commands.
pub(super) fn suits(arity: i16, argc: usize) -> bool {
    let wanted = usize::from(arity.unsigned_abs());
    if arity < 0 {
        argc >= wanted
    } else {
        argc == wanted
    }
}

/// A number as Redis reads it from an argument: no sign `+`, no leading zero,
/// no spaces.
pub(super) fn integer(arg: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(arg).ok()?;
    let number: i64 = text.parse().ok()?;
    (itoa::Buffer::new().format(number) == text).then_some(number)
}
