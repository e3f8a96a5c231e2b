//! Redis requests with several keys, or with those of every server: kept
//! together, taken apart, or told to all.

use std::rc::Rc;

use emberline_hotkey::{Access, KeyHash};
use emberline_protocol::Kind;
use emberline_protocol::redis::command::{self, Class, Command, FanOut, Split};
use emberline_protocol::redis::encode;
use emberline_protocol::redis::request::{Parser, Step};
use emberline_routing::{Ask, Plan, PoolId, ServerId, Target};

use super::{Frame, access_of, answer_local, is_harmless};
use crate::answer::redis::refuse;
use crate::running::{Listener, Partial};
use crate::server::ask::ask_of;
use crate::server::client::conversation::{Conversation, Next};
use crate::server::client::recall::Read;
use crate::server::client::scatter::Fragments;
use crate::server::client::split::{Place, Splitter};
use crate::server::dispatch::Request as DispatchRequest;
use crate::server::form::Form;
use crate::server::gather::{Gather, Merge};
use crate::server::heat::Touch;
use crate::server::pipeline::Via;
use crate::server::worker::Worker;

impl Conversation {
    pub(super) fn same_shard(
        &mut self,
        worker: &Rc<Worker>,
        listener: &Listener,
        command: &'static Command,
        frame: Frame<'_>,
    ) -> Next {
        let mut keys = Vec::new();
        if let Err(error) = command::keys(command, &frame.request(), &mut keys) {
            return self.refuse(Some(command), &format!("ERR {error}"));
        }
        let keys: Vec<&[u8]> = keys.iter().map(|&at| frame.arg(at)).collect();
        if keys.is_empty() {
            // A script without keys runs where all such scripts run.
            return self.pass_anywhere(worker, listener, command, frame);
        }
        let plans = worker.states.alike(keys.len(), |number| {
            let ask = Ask {
                several: keys.len() > 1,
                ..ask_of(command, &frame.request(), keys[number])
            };
            worker.plan(listener, self.client.origin, &ask)
        });
        for (plan, key) in plans.iter().zip(&keys) {
            if let Some(next) = self.wait_for_delete(worker, plan, key) {
                return next;
            }
        }
        if let Some(target) = plans[0].target()
            && plans.iter().all(|plan| *plan == plans[0])
        {
            return self.pass_keys(worker, command, target, keys.iter().copied(), frame);
        }
        // A pending key has a plan of its own, to the same place.
        let changed = |plan: &&Plan| matches!(plan, Plan::Edit(change, _) if change.is_nothing());
        let pending = plans.iter().find(changed).is_some_and(|pending| {
            plans
                .iter()
                .any(|other| other.target().is_some() && other.target() == pending.first())
        });
        if pending {
            let text = "TRYAGAIN an earlier delete of one of the keys is not carried out yet";
            return self.refuse(Some(command), text);
        }
        match Plan::together(&plans, &keys, access_of(command) == Access::Write) {
            Some(plan) => self.dispatch_redis(worker, command, frame, &keys, plan),
            None => {
                let text = "CROSSSLOT Keys in request don't hash to the same slot";
                self.refuse(Some(command), text)
            }
        }
    }

    /// Hand a request with several keys to the one place that has them all.
    fn pass_keys<'a>(
        &mut self,
        worker: &Rc<Worker>,
        command: &'static Command,
        plan: Target,
        keys: impl Iterator<Item = &'a [u8]> + Clone,
        frame: Frame<'_>,
    ) -> Next {
        let (pool, access) = (worker.pool_of_target(plan), access_of(command));
        let mut hashes = worker.heat.lend_hashes();
        for key in keys.clone() {
            hashes.extend(self.note(worker, pool, access, key));
        }
        let mut record = self.record(Some(command), plan);
        let touch = worker.heat.touch_many(pool, access, hashes);
        if matches!(touch, Touch::Many(Access::Write, _)) {
            if self.fetch_clashes(worker, None) {
                return self.wait_for_all();
            }
            record.via = Via::Anywhere;
        }
        if let Target::Send(server) = plan {
            worker.forget_all_copies(&touch, server);
        }
        let touch = worker.heat.told(pool, touch, keys);
        self.pass(worker, record, touch, plan, frame)
    }

    pub(super) fn split(
        &mut self,
        worker: &Rc<Worker>,
        listener: &Listener,
        command: &'static Command,
        split: Split,
        frame: Frame<'_>,
        splitter: &mut Splitter,
    ) -> Next {
        let step = if split == Split::Mset { 2 } else { 1 };
        if !(frame.parser.len() - 1).is_multiple_of(step) {
            return self.refuse_with(Some(command), |out| refuse::arity(command.name, out));
        }
        let access = access_of(command);
        if access == Access::Write && self.fetch_clashes(worker, None) {
            return self.wait_for_all();
        }
        splitter.clear();
        for (number, at) in (1..frame.parser.len()).step_by(step).enumerate() {
            let key = frame.arg(at);
            // A part of MSET is a SET: its size is known, too.
            let size = (split == Split::Mset).then(|| frame.arg(at + 1).len());
            let ask = Ask {
                size,
                ..ask_of(command, &frame.request(), key)
            };
            let plan = worker.plan(listener, self.client.origin, &ask);
            if let Some(next) = self.wait_for_delete(worker, &plan, key) {
                return next;
            }
            let Some(plan) = plan.target() else {
                let Some(first) = plan.first().or(listener.router.targets().first().copied())
                else {
                    return self.refuse(Some(command), "ERR this listener leads to no server");
                };
                if let Some(next) = self.prepare_dispatch(worker, access, &[key], &plan) {
                    return next;
                }
                splitter.put_course(first, plan);
                continue;
            };
            let pool = worker.pool_of_target(plan);
            let hash = self.note(worker, pool, access, key);
            let mut place = Place::To(plan);
            if let (Some(hash), Target::Send(server), Split::Mget) = (hash, plan, split)
                && splitter.has_room()
                && self.is_recalled(worker, &element(pool, server, key, hash))
            {
                if self.read_clashes(hash) {
                    return self.wait_for_all();
                }
                let key = u32::try_from(number).unwrap_or(u32::MAX);
                place = Place::Memory { server, key };
            } else if hash.is_some() && self.fetch_clashes(worker, hash) {
                return self.wait_for_all();
            }
            splitter.put(place, hash);
        }
        splitter.group();
        if let Some(plan) = splitter.sole() {
            let keys = (1..frame.parser.len()).step_by(step);
            let keys = keys.map(|at| frame.arg(at));
            self.noted = true;
            return self.pass_keys(worker, command, plan, keys, frame);
        }
        let merge = match split {
            Split::Mget => Merge::Mget,
            Split::Mset => Merge::First,
            Split::Sum => Merge::Sum,
        };
        let order = (split == Split::Mget).then(|| splitter.order());
        let fragment = |fragment: usize, out: &mut Vec<u8>| {
            let keys = splitter.keys(fragment);
            encode::array(out, 1 + keys.len() * step);
            encode::bulk(out, frame.arg(0));
            for &key in keys {
                let at = 1 + key as usize * step;
                (at..at + step).for_each(|at| encode::bulk(out, frame.arg(at)));
            }
        };
        let recall = |key: u32| frame.arg(1 + key as usize * step);
        self.scatter_redis(worker, command, splitter, merge, order, fragment, recall)
    }

    pub(super) fn fan_out(
        &mut self,
        worker: &Rc<Worker>,
        listener: &Listener,
        command: &'static Command,
        fan_out: FanOut,
        frame: Frame<'_>,
        splitter: &mut Splitter,
    ) -> Next {
        let targets = listener.router.targets();
        if targets.is_empty() {
            return self.refuse(Some(command), "ERR this listener leads to no server");
        }
        let subcommand = frame
            .arg(1.min(frame.parser.len() - 1))
            .to_ascii_lowercase();
        let merge = match (fan_out, subcommand.as_slice()) {
            (FanOut::FlushAll, _) => Merge::First,
            (FanOut::Sum, _) => Merge::Sum,
            (FanOut::Concat, _) => Merge::Concat,
            (FanOut::RandomKey, _) => Merge::Any,
            (FanOut::Publish, _) => {
                let ask = Ask::new(frame.arg(1), Kind::Other);
                let plan = worker.plan(listener, self.client.origin, &ask).first();
                let Some(plan) = plan.or(targets.first().copied()) else {
                    return self.refuse(Some(command), "ERR this listener leads to no server");
                };
                return self.pass(
                    worker,
                    self.record(Some(command), plan),
                    Touch::None,
                    plan,
                    frame,
                );
            }
            (FanOut::Script, b"exists") => Merge::And,
            (FanOut::Script, b"load" | b"flush" | b"kill") => Merge::First,
            (FanOut::Function, b"load" | b"delete" | b"flush" | b"restore" | b"kill") => {
                Merge::First
            }
            (FanOut::Function, b"list" | b"dump" | b"stats" | b"help")
            | (FanOut::Script, b"help") => {
                return self.pass_anywhere(worker, listener, command, frame);
            }
            (FanOut::Scan, _) => {
                let text = "ERR SCAN over several servers is not supported by this proxy";
                return self.refuse(Some(command), text);
            }
            _ => {
                let text = "ERR this subcommand cannot be sent to several servers";
                return self.refuse(Some(command), text);
            }
        };
        let places = worker.places[self.client.listener].iter().copied();
        let live = places.filter(|place| targets.contains(place));
        self.tell_all(worker, command, live, merge, frame, splitter)
    }

    /// Send the request, as it came, to several places.
    pub(super) fn tell_all(
        &mut self,
        worker: &Rc<Worker>,
        command: &'static Command,
        places: impl Iterator<Item = Target>,
        merge: Merge,
        frame: Frame<'_>,
        splitter: &mut Splitter,
    ) -> Next {
        if !is_harmless(command) && self.fetch_clashes(worker, None) {
            return self.wait_for_all();
        }
        splitter.assign(places);
        let first = worker.random() % splitter.places().len().max(1) as u64;
        let order = [u32::try_from(first).unwrap_or(0)];
        let order = (merge == Merge::Any).then_some(&order[..]);
        let fragment = |_, out: &mut Vec<u8>| frame.write(out);
        let nothing = |_| &b""[..];
        self.scatter_redis(worker, command, splitter, merge, order, fragment, nothing)
    }

    /// Send each fragment to its place: `write` appends it, `key` is the key
    /// with a number.
    #[expect(
        clippy::too_many_arguments,
        reason = "the three closures say what differs"
    )]
    fn scatter_redis<'a>(
        &mut self,
        worker: &Rc<Worker>,
        command: &'static Command,
        splitter: &Splitter,
        merge: Merge,
        order: Option<&[u32]>,
        write: impl Fn(usize, &mut Vec<u8>),
        key: impl Fn(u32) -> &'a [u8],
    ) -> Next {
        let first = splitter.places().first().map(Place::target);
        // A write that reached only some of its servers is never called a success.
        let partial = match first {
            Some(plan) if command.kind == Kind::Read => {
                worker.pool(worker.pool_of_target(plan)).partial
            }
            _ => Partial::Error,
        };
        let mut record = self.record(Some(command), first);
        if !is_harmless(command) {
            record.via = Via::Anywhere;
        }
        let version = self.version();
        let answer = |pool: PoolId, request: &[u8], reply: &mut Vec<u8>| {
            let mut parser = Parser::default();
            if let Ok(Step::Frame { .. }) = parser.parse(request, &worker.limits) {
                let args: Vec<&[u8]> = parser.args(request).collect();
                answer_local(worker, pool, &args, version, worker.unix_millis(), reply);
            }
        };
        if matches!(command.class, Class::FanOut(FanOut::FlushAll)) {
            worker.bury_all();
        }
        let access = access_of(command);
        let touch = |fragment: usize, server: ServerId| {
            let keys = splitter.keys(fragment).iter();
            let mut hashes = worker.heat.lend_hashes();
            hashes.extend(keys.filter_map(|&key| splitter.hash(key)));
            if hashes.is_empty() && !is_harmless(command) {
                return worker.touch_all(server);
            }
            let pool = worker.pool_of_server(server);
            let touch = worker.heat.touch_many(pool, access, hashes);
            worker.forget_all_copies(&touch, server);
            let keys = splitter.keys(fragment).iter().map(|&number| key(number));
            worker.heat.told(pool, touch, keys)
        };
        let recall = |number: u32, server: ServerId| {
            let hash = splitter.hash(number)?;
            Some(element(
                worker.pool_of_server(server),
                server,
                key(number),
                hash,
            ))
        };
        let course = |number: u32, bytes: Vec<u8>| {
            let request = DispatchRequest::redis(command, key(number), bytes);
            Some((splitter.course(number)?.clone(), request))
        };
        let fragments = Fragments {
            course,
            merge,
            partial,
            quiet: false,
            fill: |gather: &mut Gather| gather.order(order.unwrap_or_default()),
            write,
            answer,
            touch,
            recall,
        };
        self.scatter(worker, splitter.places(), record, fragments)
    }
}

/// One key of an `MGET`.
fn element(pool: PoolId, server: ServerId, key: &[u8], hash: KeyHash) -> Read<'_> {
    Read {
        pool,
        server,
        key,
        hash,
        form: Form::Element,
        misses: true,
    }
}
