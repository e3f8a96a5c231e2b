//! Those who write. Each has keys of its own, and sends the next write of a
//! key after the one before has been acknowledged, or behind it on the same
//! connection. After a write in doubt it goes on with another key.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::faults::Fault;
use super::field::Field;
use super::history::{Expiry, Read, Version, Via};
use super::options::WriterKind;
use super::reader::Notes;
use super::stamp::{self, Key};
use super::wire::{Answer, Ask, Client, Dialect, Put, ReadForm, WriteForm};
use crate::load::Protocol;
use crate::load::rng::Rng;

/// What a writer did.
#[derive(Debug, Default)]
pub struct Works {
    /// By key, in their order.
    pub versions: HashMap<Key, Vec<Version>>,
    /// What it read in between.
    pub notes: Notes,
    /// Writes in doubt.
    pub doubts: u64,
    /// Errors that were answered, and how often.
    pub refusals: HashMap<String, u64>,
}

/// A writer at work.
struct Writer {
    field: Arc<Field>,
    number: u8,
    kind: WriterKind,
    forms: Vec<WriteForm>,
    rng: Rng,
    works: Works,
}

/// A request on its way.
struct Sent {
    ask: Ask,
    form: WriteForm,
    /// The versions that it makes, or for an expiry the one that it concerns.
    made: Vec<(Key, u32)>,
}

/// Write until the field is stopped.
pub fn run(field: &Arc<Field>, number: u8, kind: WriterKind, rng: Rng) -> Works {
    let mut writer = Writer {
        field: Arc::clone(field),
        number,
        kind,
        forms: forms(field),
        rng,
        works: Works::default(),
    };
    while !field.is_stopped() {
        let session = field
            .connect(writer.via(), writer.dialect())
            .and_then(|(client, conn)| writer.write_on(client, conn));
        if session.is_err() {
            thread::sleep(Duration::from_millis(30));
        }
    }
    writer.works
}

/// Which ways of writing there are; common ones more than once.
fn forms(field: &Field) -> Vec<WriteForm> {
    use WriteForm::{
        Copy, Delete, Expire, Many, MetaDelete, MetaSet, Rename, Script, Set, SetFor, Swap,
    };
    let options = field.options();
    let mut forms = vec![Set, Set, Set, Set, Set, Set, Set, Delete];
    match options.protocol {
        Protocol::Redis => forms.extend([Set, Swap, Many]),
        Protocol::Memcached => forms.extend([MetaSet, MetaSet, MetaDelete]),
    }
    let expiring = [SetFor(120), Expire(100)];
    let named = [
        (Fault::Pexpire, &expiring[..]),
        (Fault::Rename, &[Rename]),
        (Fault::Copy, &[Copy]),
        (Fault::Eval, &[Script, Script]),
    ];
    for (_, more) in named.iter().filter(|(fault, _)| options.faults.has(*fault)) {
        forms.extend(*more);
    }
    forms
}

impl Writer {
    fn via(&self) -> Via {
        match self.kind {
            WriterKind::Proxy | WriterKind::Pipelined => Via::Proxy,
            WriterKind::Other => Via::Other,
            WriterKind::Direct => Via::Direct,
        }
    }

    fn dialect(&self) -> Dialect {
        match (self.field.options().protocol, self.number % 2) {
            (Protocol::Memcached, _) => Dialect::Memcached,
            (Protocol::Redis, 0) => Dialect::Resp2,
            (Protocol::Redis, _) => Dialect::Resp3,
        }
    }

    fn write_on(&mut self, mut client: Client, conn: u32) -> io::Result<()> {
        while !self.field.is_stopped() {
            let sent = self.prepare();
            let doubts = self.works.doubts;
            self.exchange(&mut client, conn, &sent)?;
            if self.works.doubts > doubts {
                // The server may be away: do not give up a key every moment.
                thread::sleep(Duration::from_millis(30));
            }
            let pause = self.field.options().pause.as_nanos() as u64;
            thread::sleep(Duration::from_nanos(self.rng.below(2 * pause)));
        }
        Ok(())
    }

    /// One request, or a few of one key in one piece.
    fn prepare(&mut self) -> Vec<Sent> {
        let count = match self.kind {
            WriterKind::Pipelined => 1 + self.rng.below(4),
            _ => 1,
        };
        let (hot, cold) = self.field.slots_of(self.number);
        let slots = match self.rng.below(5) {
            0 if !cold.is_empty() => cold,
            _ if hot.is_empty() => cold,
            _ => hot,
        };
        if slots.is_empty() {
            return Vec::new();
        }
        let slot = slots[self.rng.below(slots.len() as u64) as usize];
        (0..count).map(|_| self.request(slot, &slots)).collect()
    }

    fn request(&mut self, slot: u16, slots: &[u16]) -> Sent {
        let form = self.forms[self.rng.below(self.forms.len() as u64) as usize];
        let key = self.field.key(slot);
        if let WriteForm::Expire(_) = form
            && let Some(seq) = self.to_expire(key)
        {
            return self.expire(form, key, seq);
        }
        // The second key of an MSET is any other of one's own.
        let second = slots[self.rng.below(slots.len() as u64) as usize];
        let keys = match form {
            WriteForm::Many if second != slot => vec![key, self.field.key(second)],
            _ => vec![key],
        };
        let form = match form {
            WriteForm::Expire(_) => WriteForm::Set,
            form => form,
        };
        let held = self.via() == Via::Proxy && self.field.take_hold();
        let made: Vec<(Key, u32)> = keys
            .iter()
            .map(|&key| (key, self.begin(key, form)))
            .collect();
        let puts = made
            .iter()
            .map(|&(key, seq)| Put {
                key,
                value: stamp::value(key, self.number, seq, held),
                flags: stamp::flags(key, seq),
            })
            .collect();
        Sent {
            ask: Ask::Write(form, puts),
            form,
            made,
        }
    }

    /// The last version of a key, if it is there and not known to expire.
    fn to_expire(&self, key: Key) -> Option<u32> {
        let versions = self.works.versions.get(&key)?;
        let last = versions.last()?;
        (!last.gone && last.expiry.is_none()).then_some(versions.len() as u32)
    }

    fn expire(&mut self, form: WriteForm, key: Key, seq: u32) -> Sent {
        let start = self.field.now();
        if let Some(version) = self.version(key, seq) {
            version.expiry = Some(Expiry {
                from: start,
                by: u64::MAX,
                told: None,
            });
        }
        let put = Put {
            key,
            value: Vec::new(),
            flags: 0,
        };
        Sent {
            ask: Ask::Write(form, vec![put]),
            form,
            made: vec![(key, seq)],
        }
    }

    fn version(&mut self, key: Key, seq: u32) -> Option<&mut Version> {
        let versions = self.works.versions.get_mut(&key)?;
        versions.get_mut((seq as usize).checked_sub(1)?)
    }

    /// The next version of a key; what becomes of it is not known yet.
    fn begin(&mut self, key: Key, form: WriteForm) -> u32 {
        let start = self.field.now();
        let versions = self.works.versions.entry(key).or_default();
        versions.push(Version {
            via: match self.kind {
                WriterKind::Proxy | WriterKind::Pipelined => Via::Proxy,
                WriterKind::Other => Via::Other,
                WriterKind::Direct => Via::Direct,
            },
            start,
            end: u64::MAX,
            acked: false,
            gone: form.deletes(),
            expiry: matches!(form, WriteForm::SetFor(_)).then_some(Expiry {
                from: start,
                by: u64::MAX,
                told: None,
            }),
        });
        versions.len() as u32
    }

    /// Send, and note the answers. On an error everything that has none is in doubt.
    fn exchange(&mut self, client: &mut Client, conn: u32, sent: &[Sent]) -> io::Result<()> {
        let pipelined = self.kind == WriterKind::Pipelined;
        let mut asks = Vec::new();
        for one in sent {
            asks.push(one.ask.clone());
            if let (true, Some(&(key, _))) = (pipelined, one.made.first()) {
                asks.push(Ask::Read(ReadForm::Get, vec![key]));
            }
        }
        let start = self.field.now();
        let mut answered = 0;
        let mut outcome = client.send(&asks);
        for one in sent {
            if outcome.is_err() {
                break;
            }
            outcome = self.settle_one(client, conn, start, one, pipelined, &mut answered);
        }
        for one in &sent[answered..] {
            self.doubt(one);
        }
        outcome
    }

    fn settle_one(
        &mut self,
        client: &mut Client,
        conn: u32,
        start: u64,
        one: &Sent,
        pipelined: bool,
        answered: &mut usize,
    ) -> io::Result<()> {
        let answer = client.answer(&one.ask)?;
        *answered += 1;
        let mut acked = self.settle(one, start, answer);
        let Some(&(key, seq)) = one.made.first().filter(|_| pipelined) else {
            return Ok(());
        };
        // An end may have been given to what was there before a write in doubt.
        acked &= self.version(key, seq).is_some_and(|version| version.acked);
        let ask = Ask::Read(ReadForm::Get, vec![key]);
        match client.answer(&ask)? {
            Answer::Values(values) => {
                let template = Read {
                    key,
                    via: self.via(),
                    conn,
                    start,
                    end: self.field.now(),
                    seen: None,
                    after: if acked { seq } else { 0 },
                    settled: false,
                    form: "get behind a write",
                };
                self.works.notes.note(&self.field, template, &[key], values);
            }
            _ => self.works.notes.failures += 1,
        }
        Ok(())
    }

    /// Whether it was acknowledged.
    fn settle(&mut self, one: &Sent, start: u64, answer: Answer) -> bool {
        match answer {
            Answer::Done => {
                self.acknowledge(one, start);
                true
            }
            // There was nothing to be given an end.
            Answer::Nothing if matches!(one.form, WriteForm::Expire(_)) => {
                for &(key, seq) in &one.made {
                    if let Some(version) = self.version(key, seq) {
                        version.expiry = None;
                    }
                }
                true
            }
            other => {
                let text = match other {
                    Answer::Refused(text) => text,
                    _ => "an answer to another question".to_owned(),
                };
                *self.works.refusals.entry(text).or_default() += 1;
                self.doubt(one);
                false
            }
        }
    }

    fn acknowledge(&mut self, one: &Sent, start: u64) {
        let (end, via) = (self.field.now(), self.via());
        let (slack, whole) = granularity(self.field.options().protocol);
        for &(key, seq) in &one.made {
            let Some(version) = self.version(key, seq) else {
                continue;
            };
            let expires = matches!(one.form, WriteForm::Expire(_));
            // The write before it may not have been there yet: then an older
            // version was given the end.
            let certain = version.acked || !expires;
            if !expires {
                version.acked = true;
                version.end = end;
            }
            if let WriteForm::Expire(ms) | WriteForm::SetFor(ms) = one.form {
                let ttl = u64::from(ms).next_multiple_of(whole) * 1_000_000;
                let from = (start + ttl).saturating_sub(slack);
                version.expiry = Some(Expiry {
                    from,
                    by: match certain {
                        true => end + ttl + slack,
                        false => u64::MAX,
                    },
                    told: expires.then_some((via, end)),
                });
                if !certain {
                    self.may_end(key, seq.saturating_sub(1), from);
                }
            }
        }
    }

    /// This version may have been given an end that was meant for the one
    /// behind it, if there is such a version.
    fn may_end(&mut self, key: Key, seq: u32, from: u64) {
        if let Some(version) = self.version(key, seq) {
            let from = version.expiry.map_or(from, |own| own.from.min(from));
            version.expiry = Some(Expiry {
                from,
                by: u64::MAX,
                told: None,
            });
        }
    }

    fn doubt(&mut self, one: &Sent) {
        let end = self.field.now();
        self.works.doubts += 1;
        for &(key, seq) in &one.made {
            if !matches!(one.form, WriteForm::Expire(_))
                && let Some(version) = self.version(key, seq)
            {
                version.end = end;
            }
            if self.field.key(key.slot) == key {
                self.field.give_up(key);
            }
        }
    }
}

/// How exactly a server keeps an expiry (nanoseconds), and its unit (milliseconds).
/// memcached looks at its clock once a second.
fn granularity(protocol: Protocol) -> (u64, u64) {
    match protocol {
        Protocol::Redis => (5_000_000, 1),
        Protocol::Memcached => (1_500_000_000, 1000),
    }
}
