//! Whether the targets are still those that were filled.
//!
//! A memcached that was restarted, or a Redis without a disk, has lost what it
//! was given, and nothing that a copy goes on with would tell: it would end and
//! say that everything is there. So each target is asked at the beginning and at
//! the end which life it is in, and a checkpoint keeps what it said.

use std::rc::Rc;

use super::Work;
use super::endpoint::{Endpoint, Failed};
use super::instance;
use super::link::Fault;
use crate::running::Pool;

/// What is said of a target that has forgotten.
const RESTARTED: &str = "it was restarted while it was filled, and what it was given before may be \
                         missing; run the same command again";

impl Work {
    /// Ask all targets who they are. If the checkpoint knows one of them in
    /// another life, everything begins anew: what it was given came from all of
    /// the sources, and what the others have stays.
    pub(super) async fn meet_targets(self: &Rc<Work>) {
        let mut restarted = Vec::new();
        for (name, now) in self.ask_targets().await {
            let protocol = self.to.pool().map(|pool| pool.protocol);
            let then = self.lives.borrow().get(&name).cloned();
            let same = |then: &str| {
                protocol.is_none_or(|protocol| instance::is_same(protocol, then, &now))
            };
            if now.is_empty() || then.as_deref().is_some_and(same) {
                continue;
            }
            if then.is_some_and(|then| !then.is_empty()) {
                restarted.push(name.clone());
            }
            self.lives.borrow_mut().insert(name, now);
        }
        if !restarted.is_empty() {
            for source in &self.sources {
                source.begin_anew(&self.options);
            }
        }
        self.restarted.replace(restarted);
    }

    /// Ask them again: those that are in another life are given up, so that
    /// nobody takes the copy for whole. The checkpoint keeps the life that was
    /// filled, and so the next run begins anew.
    pub(super) async fn part_from_targets(self: &Rc<Work>) {
        let Some(pool) = self.to.pool() else { return };
        for (name, now) in self.ask_targets().await {
            let then = self.lives.borrow().get(&name).cloned();
            let known = then.filter(|then| !then.is_empty() && !now.is_empty());
            let other = known.is_some_and(|then| !instance::is_same(pool.protocol, &then, &now));
            let ends = self.targets.values().filter(|end| end.name == name);
            if other {
                ends.for_each(|end| end.fail(RESTARTED.to_owned()));
            }
        }
    }

    /// The names and lives of those targets that may be given something, all at
    /// once. One that does not answer is given up.
    async fn ask_targets(self: &Rc<Work>) -> Vec<(String, String)> {
        let live: Vec<u32> = self.to.ring.servers().map(|id| id.0).collect();
        let only = &self.options.only;
        let mut asking = tokio::task::JoinSet::new();
        for (id, end) in &self.targets {
            if live.contains(id) && (only.is_empty() || only.contains(&end.name)) {
                let (work, id) = (Rc::clone(self), *id);
                asking.spawn_local(async move {
                    let end = work.targets.get(&id)?;
                    let life = life_of(work.to.pool()?, end).await.ok()?;
                    Some((end.name.clone(), life))
                });
            }
        }
        let mut lives = Vec::new();
        while let Some(asked) = asking.join_next().await {
            lives.extend(asked.ok().flatten());
        }
        lives
    }
}

async fn life_of(pool: &Pool, end: &Endpoint) -> Result<String, Failed> {
    loop {
        let ask = |out: &mut Vec<u8>| {
            out.extend_from_slice(instance::question(pool.protocol));
            1
        };
        let replies = end.ask(pool, ask).await?;
        match instance::read(pool.protocol, replies.reply(0)) {
            Ok(life) => {
                end.answered();
                return Ok(life);
            }
            Err(fault) => end.again(Fault::Lost(fault.to_string())).await?,
        }
    }
}
