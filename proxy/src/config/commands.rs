//! The commands that a listener allows or denies.

use emberline_protocol::memcache::Verb;
use emberline_protocol::redis::command::{COMMANDS, lookup};

use super::Report;
use super::read::At;
use super::suggest::did_you_mean;
use crate::running::Protocol;

/// The names as the data plane compares them: lower case, a subcommand behind
/// a `|`, as in `config|set`. Names that are no commands are errors.
pub fn check(
    list: &[At<String>],
    protocol: Option<Protocol>,
    allowing: bool,
    report: &mut Report,
) -> Vec<String> {
    let mut names = Vec::with_capacity(list.len());
    for written in list {
        let words: Vec<_> = written
            .value
            .split([' ', '|'])
            .map(str::to_ascii_lowercase)
            .collect();
        let name = words.join("|");
        let (known, hint) = match protocol {
            Some(Protocol::Redis) => redis(&name, report.is_full()),
            Some(Protocol::Memcached) => memcached(&name, report.is_full()),
            None => continue,
        };
        if !known {
            let shown: String = written.value.chars().take(64).collect();
            report.error_hint(&written.span, format!("unknown command \"{shown}\""), hint);
        } else if allowing && name == "shutdown" {
            report.error(
                &written.span,
                "shutdown cannot be allowed: it stops a server for everyone",
            );
        }
        names.push(name);
    }
    names
}

/// Whether Redis has this command, and else, unless that is to be brief, what
/// comes close.
fn redis(name: &str, brief: bool) -> (bool, Option<String>) {
    let near = |name, known: &mut dyn Iterator<Item = &'static str>| match brief {
        true => None,
        false => did_you_mean(name, known),
    };
    let base = name.split('|').next().unwrap_or_default();
    let Some(command) = lookup(base.as_bytes()) else {
        let mut known = COMMANDS.iter().map(|command| command.name);
        return (false, near(base, &mut known));
    };
    if name == base {
        return (true, None);
    }
    let subcommands = || command.subcommands.iter().map(|sub| sub.name);
    let known = subcommands().any(|known| known == name);
    (known, near(name, &mut subcommands()))
}

fn memcached(name: &str, brief: bool) -> (bool, Option<String>) {
    let verbs = || Verb::ALL.iter().map(|verb| verb.name());
    let known = verbs().any(|known| known == name);
    let hint = match known || brief {
        true => None,
        false => did_you_mean(name, verbs()),
    };
    (known, hint)
}
