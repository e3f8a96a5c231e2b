//! memcached requests, explained.

use emberline_protocol::memcache::{Limits, Parser, Verb};
use emberline_routing::explain::Tree;

use super::Scene;
use crate::server::ask::memcached::ask_of;

pub fn is_verb(word: &str) -> bool {
    Verb::ALL.iter().any(|verb| verb.name() == word)
}

/// What happens to a request that is given by its command line.
pub fn explain(scene: &Scene<'_>, request: &str) -> Result<Vec<Tree>, String> {
    let line = format!("{}\r\n", request.replace(['\r', '\n'], " "));
    let limits = Limits {
        value_max: scene.listener.value_max,
        ..Limits::default()
    };
    let mut parser = Parser::default();
    let parsed = parser.parse(line.as_bytes(), &limits);
    let request = match parsed {
        Ok(Some(request)) => request,
        Ok(None) => return Err("there is no request".to_owned()),
        Err(error) if error.reply.is_empty() => {
            return Err("the proxy would close the connection".to_owned());
        }
        Err(error) => {
            let word = request.split_whitespace().next().unwrap_or_default();
            let lower = word.to_ascii_lowercase();
            let hint = match is_verb(&lower) && lower != word {
                true => format!("; memcached's commands are in small letters, as in \"{lower}\""),
                false => String::new(),
            };
            return Err(format!("the proxy would answer: {error}{hint}"));
        }
    };
    let verb = request.verb;
    if scene.denied(&[verb.name().to_owned()]) {
        return Ok(vec![Tree::new("refused: this listener denies it")]);
    }
    match verb {
        _ if verb.is_for_all() => return Ok(vec![scene.everywhere("OK if all say OK")]),
        _ if verb.is_administrative() => {
            return Ok(vec![Tree::new("refused: it administers a server")]);
        }
        _ if parser.key_count() == 0 => {
            return Ok(vec![Tree::new("answered by the proxy itself")]);
        }
        _ => {}
    }
    let mut nodes = Vec::new();
    if parser.key_count() > 1 {
        nodes.push(Tree::new(
            "taken apart by server; the values come in the order of the keys",
        ));
    }
    let whole = matches!(verb, Verb::Get | Verb::Gets | Verb::MetaGet);
    let head = line.as_bytes().get(..request.head).unwrap_or_default();
    for i in 0..parser.key_count() {
        let key = parser.routing_key(line.as_bytes(), &request, i);
        let ask = ask_of(&request, head, key);
        nodes.push(scene.way(&ask, whole));
    }
    Ok(nodes)
}
