//! Which commands a listener lets through.

use std::collections::HashSet;

use emberline_protocol::redis::Command;

use crate::running::Listener;

/// Commands that never pass, whatever a listener allows.
const NEVER: [&str; 1] = ["shutdown"];

/// A listener's `allow` and `deny`.
#[derive(Debug, Default)]
pub struct Policy {
    allow: HashSet<String>,
    deny: HashSet<String>,
    /// Whether `GET` is refused: asked so often that it is known.
    pub denies_get: bool,
}

/// Whether `list` has the command, or this subcommand of it as `config|set`.
fn lists(list: &HashSet<String>, name: &[u8], subcommand: &[u8]) -> bool {
    if list.is_empty() {
        return false;
    }
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let subcommand = String::from_utf8_lossy(subcommand).to_ascii_lowercase();
    list.contains(&name) || list.contains(&format!("{name}|{subcommand}"))
}

impl Policy {
    /// The policy of `listener`.
    pub fn new(listener: &Listener) -> Policy {
        Policy {
            allow: listener.allow.iter().cloned().collect(),
            deny: listener.deny.iter().cloned().collect(),
            denies_get: listener.deny.iter().any(|name| name == "get"),
        }
    }

    /// Whether a command that is refused by default is let through.
    pub fn allows(&self, command: &Command, subcommand: &[u8]) -> bool {
        lists(&self.allow, command.name.as_bytes(), subcommand) && !NEVER.contains(&command.name)
    }

    /// Whether a command of this name, in any case, is refused.
    pub fn denies(&self, name: &[u8], subcommand: &[u8]) -> bool {
        lists(&self.deny, name, subcommand)
    }
}
