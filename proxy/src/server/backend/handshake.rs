//! Our own first words on a connection: who we are, which database, and which
//! version of the protocol.

use emberline_protocol::redis::encode::{self, Version};

use super::Backend;
use super::entry::{Entry, Owner};
use crate::running::{Pool, Protocol};
use crate::server::worker::Worker;

impl Backend {
    pub(super) fn queue_handshake(&self, worker: &Worker, pool: &Pool) {
        for words in first_words(pool, self.version) {
            let entry = Entry {
                owner: Owner::Handshake(Vec::new()),
                ..Entry::unheard(worker.now())
            };
            self.push(worker, entry, |out| {
                encode::command(out, words.iter().map(|word| word.as_bytes()));
            });
        }
    }
}

/// What is said on a new connection before anything else.
pub fn first_words(pool: &Pool, version: Version) -> Vec<Vec<String>> {
    if pool.protocol == Protocol::Memcached {
        return Vec::new();
    }
    let user = pool.username.as_deref().unwrap_or("default");
    let password = pool.password.as_ref().map(|secret| secret.reveal());
    let database = pool.database.to_string();
    let mut commands: Vec<Vec<&str>> = Vec::new();
    match (version, password) {
        (Version::Resp3, Some(password)) => {
            commands.push(vec!["HELLO", "3", "AUTH", user, password]);
        }
        (Version::Resp3, None) => commands.push(vec!["HELLO", "3"]),
        (Version::Resp2, Some(password)) if pool.username.is_none() => {
            commands.push(vec!["AUTH", password]);
        }
        (Version::Resp2, Some(password)) => commands.push(vec!["AUTH", user, password]),
        (Version::Resp2, None) => {}
    }
    if pool.database != 0 {
        commands.push(vec!["SELECT", &database]);
    }
    let owned = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect();
    commands.into_iter().map(owned).collect()
}
