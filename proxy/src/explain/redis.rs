//! Redis requests, explained.

use emberline_protocol::redis::command::{blocking, keys, lookup};
use emberline_protocol::redis::{Class, Command, FanOut, KeyError, Limits, Parser, Split, Step};
use emberline_routing::explain::Tree;
use emberline_routing::{Ask, Plan};

use super::Scene;
use crate::server::ask::ask_of;

/// What happens to a request that is typed as one line.
pub fn explain(scene: &Scene<'_>, request: &str) -> Result<Vec<Tree>, String> {
    // A line is what Redis itself reads when a human types at it, quotes and
    // escapes included.
    let line = format!("{}\r\n", request.replace(['\r', '\n'], " "));
    let mut parser = Parser::default();
    let step = parser.parse(line.as_bytes(), &Limits::default());
    match step.map_err(|error| error.to_string())? {
        Step::Frame { .. } => {}
        Step::Empty { .. } | Step::Partial => return Err("there is no request".to_owned()),
    }
    let args: Vec<&[u8]> = parser.args(line.as_bytes()).collect();
    let Some(command) = lookup(args.first().copied().unwrap_or_default()) else {
        return Ok(vec![scene.if_sole("unknown command")]);
    };
    let names = names(command, &args);
    if scene.denied(&names) {
        return Ok(vec![Tree::new("refused: this listener denies it")]);
    }
    if blocking(command, &args) {
        return Ok(vec![Tree::new(
            "refused: it blocks, which is not supported by this proxy version",
        )]);
    }
    match command.class {
        Class::Local => Ok(vec![Tree::new("answered by the proxy itself")]),
        Class::Refused(_) if scene.allowed(&names) => {
            Ok(vec![scene.if_sole("allowed by this listener")])
        }
        Class::Refused(why) | Class::Later(why) => Ok(vec![Tree::new(format!("refused: {why}"))]),
        Class::FanOut(FanOut::Scan) => {
            Ok(vec![scene.if_sole(
                "one cursor cannot walk several servers in this version",
            )])
        }
        Class::FanOut(FanOut::PubSub) => Ok(vec![Tree::new(
            "refused: publish and subscribe are not supported by this proxy version",
        )]),
        Class::FanOut(how) => Ok(vec![scene.everywhere(merge_of(how))]),
        Class::Single | Class::SameShard | Class::Split(_) => keyed(scene, command, &args),
    }
}

/// The command's name, and with its subcommand, as `allow` and `deny` say it.
fn names(command: &Command, args: &[&[u8]]) -> Vec<String> {
    let mut names = vec![command.name.to_owned()];
    if let Some(sub) = args.get(1).and_then(|sub| command.subcommand(sub)) {
        names.push(sub.name.to_owned());
    }
    names
}

fn keyed(scene: &Scene<'_>, command: &Command, args: &[&[u8]]) -> Result<Vec<Tree>, String> {
    let mut at = Vec::new();
    match keys(command, args, &mut at) {
        // `XINFO HELP` and the like, and scripts.
        Ok(()) if at.is_empty() => return Ok(vec![scene.anywhere("it names no key")]),
        Err(KeyError::NoKey(_)) => return Ok(vec![scene.anywhere("it names no key")]),
        Ok(()) => {}
        Err(error) => return Err(error.to_string()),
    }
    let keys: Vec<&[u8]> = at.iter().filter_map(|&i| args.get(i).copied()).collect();
    let mut nodes = Vec::new();
    if keys.len() > 1 {
        let several = command.class == Class::SameShard;
        let plan = |key: &&[u8]| {
            let ask = Ask {
                several,
                ..ask_of(command, args, key)
            };
            scene.explanation(&ask).plan
        };
        let plans: Vec<Plan> = keys.iter().map(plan).collect();
        let together = match several {
            true => Plan::together(&plans, &keys, command.write).is_some(),
            false => plans.iter().all(|plan| *plan == plans[0]),
        };
        nodes.push(Tree::new(match (command.class, together) {
            (_, true) => "all keys are in one place: sent as it is".to_owned(),
            (Class::Split(how), false) => format!("taken apart by server; {}", merged(how)),
            _ => "refused with CROSSSLOT: its keys are in different places".to_owned(),
        }));
    }
    let whole = matches!(command.name, "get" | "mget");
    let way = |key: &&[u8]| scene.way(&ask_of(command, args, key), whole);
    nodes.extend(keys.iter().map(way));
    Ok(nodes)
}

fn merged(how: Split) -> &'static str {
    match how {
        Split::Mget => "the values are put together in the order of the keys",
        Split::Mset => "OK if every server says OK",
        Split::Sum => "the counts are added up",
    }
}

fn merge_of(how: FanOut) -> &'static str {
    match how {
        FanOut::FlushAll => "OK if all say OK",
        FanOut::Sum | FanOut::Publish => "the counts are added up",
        FanOut::Concat => "the lists are put together",
        FanOut::RandomKey => "the first that has a key answers",
        FanOut::Script | FanOut::Function => "merged as the subcommand asks",
        // Answered before they come here.
        FanOut::PubSub | FanOut::Scan => "one after the other",
    }
}
