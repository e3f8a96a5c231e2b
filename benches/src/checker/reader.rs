//! Those who read: they ask, and write down what they were told and when.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::field::Field;
use super::history::{Alien, Foreign, Read, Via};
use super::stamp::{self, Key};
use super::wire::{Answer, Ask, Client, Dialect, Found, ReadForm};
use crate::load::Protocol;
use crate::load::rng::Rng;

/// A connection lives for so many batches, so that all workers get their share.
const BATCHES_MAX: u32 = 2000;

/// What a reader does.
#[derive(Clone, Copy, Debug)]
pub struct Habit {
    /// Through whom it reads.
    pub via: Via,
    /// What it speaks.
    pub dialect: Dialect,
    /// Which commands it uses.
    pub forms: &'static [ReadForm],
    /// How many requests it sends in one piece, at most.
    pub depth: u64,
    /// Its share of the rate.
    pub weight: u32,
}

/// The readers of a run.
pub fn habits(protocol: Protocol, alone: bool) -> Vec<Habit> {
    use ReadForm::{Get, Gets, Many, Meta, Range};
    let habit = |via, dialect, forms, depth, weight| Habit {
        via,
        dialect,
        forms,
        depth,
        weight,
    };
    let mut habits = match protocol {
        Protocol::Redis => vec![
            habit(Via::Proxy, Dialect::Resp2, &[Get][..], 1, 4),
            habit(Via::Proxy, Dialect::Resp3, &[Get], 1, 4),
            habit(Via::Proxy, Dialect::Resp2, &[Get, Many, Get, Range], 8, 6),
            habit(Via::Proxy, Dialect::Resp3, &[Get, Get, Many], 4, 4),
            habit(Via::Other, Dialect::Resp3, &[Get], 2, 3),
            habit(Via::Direct, Dialect::Resp2, &[Get], 2, 2),
        ],
        Protocol::Memcached => vec![
            habit(Via::Proxy, Dialect::Memcached, &[Get][..], 1, 4),
            habit(Via::Proxy, Dialect::Memcached, &[Gets], 1, 4),
            habit(
                Via::Proxy,
                Dialect::Memcached,
                &[Get, Many, Gets, Meta],
                8,
                6,
            ),
            habit(Via::Proxy, Dialect::Memcached, &[Meta], 4, 4),
            habit(Via::Other, Dialect::Memcached, &[Gets], 2, 3),
            habit(Via::Direct, Dialect::Memcached, &[Gets], 2, 2),
        ],
    };
    habits.retain(|habit| !alone || habit.via != Via::Other);
    habits
}

/// What was read, and what went wrong with it.
#[derive(Debug, Default)]
pub struct Notes {
    /// In the order of the connection.
    pub reads: Vec<Read>,
    /// Values nobody wrote.
    pub aliens: Vec<Alien>,
    /// The CAS of every version that was read with one.
    pub cas: HashMap<(Key, u32), u64>,
    /// Reads without an answer, errors included.
    pub failures: u64,
}

impl Notes {
    /// Note the answer to a read; `template` says all but what was read.
    pub fn note(
        &mut self,
        field: &Field,
        template: Read,
        keys: &[Key],
        values: Vec<Option<Found>>,
    ) {
        for (&key, found) in keys.iter().zip(values) {
            let read = Read { key, ..template };
            let seen = match found {
                None => None,
                Some(found) => match self.recognise(field, key, &found) {
                    Ok(seq) => Some(seq),
                    Err(wrong) => {
                        let excerpt = &found.bytes[..found.bytes.len().min(80)];
                        self.aliens.push(Alien {
                            key,
                            via: read.via,
                            end: read.end,
                            wrong,
                            excerpt: excerpt.escape_ascii().to_string(),
                        });
                        continue;
                    }
                },
            };
            self.reads.push(Read { seen, ..read });
        }
    }

    fn recognise(&mut self, field: &Field, key: Key, found: &Found) -> Result<u32, Foreign> {
        let writer = field.writer_of(key.slot);
        let seq = stamp::parse(key, writer, &found.bytes).map_err(Foreign::Value)?;
        if found
            .flags
            .is_some_and(|flags| flags != stamp::flags(key, seq))
        {
            return Err(Foreign::Flags);
        }
        if let Some(cas) = found.cas
            && *self.cas.entry((key, seq)).or_insert(cas) != cas
        {
            return Err(Foreign::Cas);
        }
        Ok(seq)
    }
}

/// Read until the field is stopped.
pub fn run(field: &Arc<Field>, habit: Habit, rate: f64, mut rng: Rng) -> Notes {
    let mut notes = Notes::default();
    while !field.is_stopped() {
        let session = field
            .connect(habit.via, habit.dialect)
            .and_then(|(client, conn)| {
                read_on(field, habit, rate, client, conn, &mut rng, &mut notes)
            });
        if session.is_err() {
            notes.failures += 1;
            thread::sleep(Duration::from_millis(5));
        }
    }
    notes
}

fn read_on(
    field: &Field,
    habit: Habit,
    rate: f64,
    mut client: Client,
    conn: u32,
    rng: &mut Rng,
    notes: &mut Notes,
) -> io::Result<()> {
    let began = Instant::now();
    let mut asked = 0u64;
    for _ in 0..BATCHES_MAX {
        if field.is_stopped() {
            return Ok(());
        }
        let asks: Vec<Ask> = (0..1 + rng.below(habit.depth))
            .map(|_| choose(field, habit, rng))
            .collect();
        let template = template(field, habit, conn);
        let failures = notes.failures;
        batch(field, &mut client, &asks, template, notes)?;
        if notes.failures > failures {
            thread::sleep(Duration::from_millis(5));
        }
        asked += asks.len() as u64;
        let ahead = Duration::from_secs_f64(asked as f64 / rate).saturating_sub(began.elapsed());
        if ahead > Duration::from_micros(200) {
            thread::sleep(ahead);
        }
    }
    Ok(())
}

/// A read that begins now, without its key and what it was told.
fn template(field: &Field, habit: Habit, conn: u32) -> Read {
    Read {
        key: field.key(0),
        via: habit.via,
        conn,
        start: field.now(),
        end: 0,
        seen: None,
        after: 0,
        settled: false,
        form: "",
    }
}

fn batch(
    field: &Field,
    client: &mut Client,
    asks: &[Ask],
    template: Read,
    notes: &mut Notes,
) -> io::Result<()> {
    client.send(asks)?;
    for ask in asks {
        let answer = client.answer(ask)?;
        let end = field.now();
        match (ask, answer) {
            (Ask::Read(form, keys), Answer::Values(values)) => {
                let form = form.name();
                notes.note(
                    field,
                    Read {
                        end,
                        form,
                        ..template
                    },
                    keys,
                    values,
                );
            }
            _ => notes.failures += 1,
        }
    }
    Ok(())
}

/// Mostly hot keys; those of a multi-get are mixed with cold ones.
fn choose(field: &Field, habit: Habit, rng: &mut Rng) -> Ask {
    let form = habit.forms[rng.below(habit.forms.len() as u64) as usize];
    let form = match form {
        ReadForm::Range if field.options().no_ranges => ReadForm::Get,
        form => form,
    };
    let mut keys = vec![match rng.below(10) {
        0 => field.cold_key(rng),
        _ => field.hot_key(rng),
    }];
    if form == ReadForm::Many {
        for _ in 0..1 + rng.below(4) {
            let key = match rng.below(3) {
                0 => field.hot_key(rng),
                _ => field.cold_key(rng),
            };
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    Ask::Read(form, keys)
}

/// The last look at every key, when all is quiet: through `via`, several times
/// over several connections.
pub fn sweep(field: &Field, habit: Habit, rounds: u32, notes: &mut Notes) -> io::Result<()> {
    let last = (0..field.slots()).map(|slot| field.key(slot));
    let keys = last.flat_map(|last| {
        let turns = last.turn.saturating_sub(2)..=last.turn;
        turns.map(move |turn| Key { turn, ..last })
    });
    let form = habit.forms[0];
    let asks: Vec<Ask> = keys.map(|key| Ask::Read(form, vec![key])).collect();
    for _ in 0..rounds {
        let (mut client, conn) = field.connect(habit.via, habit.dialect)?;
        for asks in asks.chunks(16) {
            let settled = true;
            let template = template(field, habit, conn);
            batch(
                field,
                &mut client,
                asks,
                Read {
                    settled,
                    ..template
                },
                notes,
            )?;
        }
    }
    Ok(())
}
