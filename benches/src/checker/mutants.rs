//! Is the checker blind? Each rule of the fill protocol is switched off in
//! turn (`cargo build --features mutations`), in a scenario that makes its
//! absence felt, and the checker must notice. The same scenario with all rules
//! in force must be clean, or it would prove nothing.

use std::fmt::Write;
use std::io;
use std::time::Duration;

use super::faults::Fault;
use super::options::{Faults, Mode, Options, WriterKind};
use super::relay::Lane;
use super::report::Report;
use super::timeline::Rule;

/// How often a mutant is looked for before it counts as missed.
const ATTEMPTS: u64 = 3;

/// One rule, switched off.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// The name that the proxy knows it by.
    pub name: &'static str,
    /// The rule of the fill protocol.
    pub rule: &'static str,
    /// What is done to make it felt.
    pub scenario: &'static str,
    /// Which promise is broken without it; none where it bounds cost, which is
    /// judged by figures.
    pub breaks: Option<Rule>,
    shape: fn(&mut Options),
}

/// Every rule. Times in the scenarios are those of `docs/freshness.md`.
pub const ALL: [Mutant; 15] = [
    Mutant {
        name: "two-links",
        rule: "1",
        scenario: "tracking: at most one connection tracks keys",
        breaks: None,
        shape: |options| {
            tracking(options);
            options.expect_tracking_max = Some(1);
        },
    },
    Mutant {
        name: "no-caching-yes",
        rule: "2",
        scenario: "tracking, direct writes",
        breaks: Some(Rule::Bounded),
        shape: |options| {
            tracking(options);
            options.writers = vec![WriterKind::Direct; 2];
        },
    },
    Mutant {
        name: "no-poison",
        rule: "3",
        scenario: "tracking, replies to fills take 15 ms, local writes",
        breaks: Some(Rule::OwnWrites),
        shape: |options| {
            tracking(options);
            options.writers = vec![WriterKind::Proxy; 2];
            options.weather.fills.down = Duration::from_millis(15);
        },
    },
    Mutant {
        name: "no-null-push",
        rule: "3",
        scenario: "tracking, direct writes, FLUSHALL",
        breaks: Some(Rule::Bounded),
        shape: |options| {
            tracking(options);
            options.writers = vec![WriterKind::Direct; 2];
            options.faults = Faults(vec![Fault::FlushAll]);
            options.pause = Duration::from_millis(20);
        },
    },
    Mutant {
        name: "no-pttl",
        rule: "4",
        scenario: "ttl of 3 s, direct SET PX 120 ms",
        breaks: Some(Rule::Bounded),
        shape: |options| {
            blind(options, 3);
            options.writers = vec![WriterKind::Direct; 2];
            options.faults = Faults(vec![Fault::Pexpire]);
            options.pause = Duration::from_millis(40);
        },
    },
    Mutant {
        name: "no-write-invalidation",
        rule: "5",
        scenario: "ttl of 2 s, local writes",
        breaks: Some(Rule::OwnWrites),
        shape: |options| {
            blind(options, 2);
            options.writers = vec![WriterKind::Proxy, WriterKind::Pipelined];
        },
    },
    Mutant {
        name: "no-reply-invalidation",
        rule: "5",
        scenario: "ttl of 2 s, local writes take 10 ms to the server, fills none",
        breaks: Some(Rule::OwnWrites),
        shape: |options| {
            blind(options, 2);
            options.writers = vec![WriterKind::Proxy; 2];
            options.weather.others.up = Duration::from_millis(10);
        },
    },
    Mutant {
        name: "no-quarantine",
        rule: "5",
        scenario: "ttl of 5 s, local writes held for longer than the timeout",
        breaks: Some(Rule::OwnWrites),
        shape: |options| {
            blind(options, 5);
            options.writers = vec![WriterKind::Proxy];
            options.hot = 2;
            options.cold = 4;
            options.faults = Faults(vec![Fault::Doubt]);
            options.seconds = Duration::from_secs(10);
        },
    },
    Mutant {
        name: "no-heartbeat",
        rule: "6",
        scenario: "tracking, the link falls silent, direct writes",
        breaks: Some(Rule::Bounded),
        shape: |options| {
            tracking(options);
            options.writers = vec![WriterKind::Direct; 2];
            options.faults = Faults(vec![Fault::SilentLink]);
        },
    },
    Mutant {
        name: "no-epoch",
        rule: "6",
        scenario: "tracking, the link is lost, direct writes",
        breaks: Some(Rule::Bounded),
        shape: |options| {
            tracking(options);
            options.writers = vec![WriterKind::Direct; 2];
            options.faults = Faults(vec![Fault::DropLink]);
        },
    },
    Mutant {
        name: "no-script-keys",
        rule: "7",
        scenario: "ttl of 2 s, local EVAL, RENAME, COPY, MSET",
        breaks: Some(Rule::OwnWrites),
        shape: |options| {
            blind(options, 2);
            options.writers = vec![WriterKind::Proxy, WriterKind::Pipelined];
            options.faults = Faults(vec![Fault::Eval, Fault::Rename, Fault::Copy]);
        },
    },
    Mutant {
        name: "no-churn-guard",
        rule: "8",
        scenario: "tracking, one key written as fast as possible: at most 30 fills per 100 writes",
        breaks: None,
        shape: |options| {
            tracking(options);
            options.l1 = vec!["reads_per_invalidation = 16".to_owned()];
            options.writers = vec![WriterKind::Direct];
            options.hot = 1;
            options.cold = 0;
            options.pause = Duration::from_millis(2);
            options.rate = 2000;
            options.expect_fills_per_100_writes_max = Some(30);
        },
    },
    Mutant {
        name: "no-touch",
        rule: "9",
        scenario: "tracking, no writes, touch_every = 1 s: at least 2 TOUCH in 5 s",
        breaks: None,
        shape: |options| {
            tracking(options);
            options.l1 = vec!["touch_every = \"1s\"".to_owned()];
            options.writers = vec![WriterKind::Direct];
            options.pause = Duration::from_secs(3);
            options.seconds = Duration::from_secs(5);
            options.expect_touches_min = Some(2);
        },
    },
    Mutant {
        name: "no-front-check",
        rule: "10",
        scenario: "ttl of 2 s, two workers, local writes",
        breaks: Some(Rule::OwnWrites),
        shape: |options| {
            blind(options, 2);
            options.writers = vec![WriterKind::Proxy; 2];
        },
    },
    Mutant {
        name: "no-direct-read-rule",
        rule: "11",
        scenario: "ttl of 2 s, one waiter per fill, slow workers, direct writes",
        breaks: Some(Rule::Monotonic),
        shape: |options| {
            blind(options, 2);
            options.l1 = vec!["waiters_max = 1".to_owned()];
            options.writers = vec![WriterKind::Direct; 2];
            options.weather.others = Lane::slow(Duration::from_millis(5));
        },
    },
];

/// No faults, one proxy, and nothing that the bound would excuse.
fn tracking(options: &mut Options) {
    options.mode = Mode::Tracking;
    options.faults = Faults::default();
    options.alone = true;
    options.seconds = Duration::from_secs(4);
}

fn blind(options: &mut Options, ttl_seconds: u64) {
    tracking(options);
    options.mode = Mode::Ttl;
    options.ttl = Some(Duration::from_secs(ttl_seconds));
}

impl Mutant {
    /// The one with this name.
    pub fn find(name: &str) -> Option<Mutant> {
        ALL.into_iter().find(|mutant| mutant.name == name)
    }

    /// Whether a report shows what its absence does.
    fn shows(&self, report: &Report) -> bool {
        match self.breaks {
            Some(rule) => report.verdict.count(rule) > 0,
            None => !report.out_of_bounds().is_empty(),
        }
    }

    /// Its scenario, with this rule switched off or with all in force.
    pub fn options(&self, base: &Options, mutated: bool) -> Options {
        let mut options = base.clone();
        (self.shape)(&mut options);
        options.mutation = mutated.then(|| self.name.to_owned());
        options
    }
}

/// What became of a mutant.
#[derive(Debug)]
pub struct Score {
    /// Which.
    pub mutant: Mutant,
    /// With all rules in force.
    pub sound: Report,
    /// Without this one; the last attempt.
    pub mutated: Report,
    /// How many attempts it took.
    pub attempts: u64,
}

impl Score {
    /// Whether the checker told one from the other, and had something to tell.
    pub fn passed(&self) -> bool {
        self.sound.clean() && self.mutant.shows(&self.mutated) && self.sound.served()
    }

    /// A row of the table.
    pub fn row(&self) -> String {
        let verdict = match (self.passed(), self.sound.clean(), self.sound.served()) {
            (true, ..) => "caught",
            (_, false, _) => "NOT CLEAN with all rules",
            (_, _, false) => "NOTHING was answered from memory",
            _ => "MISSED",
        };
        let Mutant {
            name,
            rule,
            scenario,
            ..
        } = self.mutant;
        let (sound, mutated) = (found(&self.sound), found(&self.mutated));
        format!("| {rule} | `{name}` | {scenario} | {sound} | {mutated} | {verdict} |")
    }
}

/// What a report found, in a few words.
fn found(report: &Report) -> String {
    let mut text = String::new();
    for rule in Rule::ALL {
        let count = report.verdict.count(rule);
        if count > 0 {
            // Writing into a String cannot fail.
            let _ = write!(text, "{} x{count}, ", rule.code());
        }
    }
    let options = &report.options;
    let figures = [
        (
            options.expect_tracking_max,
            report.tracking_max,
            "connections",
        ),
        (
            options.expect_fills_per_100_writes_max,
            report.fills_per_100_writes(),
            "fills per 100 writes",
        ),
        (options.expect_touches_min, report.calls.touch, "TOUCH"),
    ];
    for (_, figure, name) in figures.iter().filter(|(bound, ..)| bound.is_some()) {
        let _ = write!(text, "{figure} {name}, ");
    }
    match text.strip_suffix(", ") {
        Some(text) => text.to_owned(),
        None => "0".to_owned(),
    }
}

/// Judge one mutant.
///
/// # Errors
/// When the programs cannot be started, or the run is interrupted.
pub fn score(mutant: Mutant, base: &Options) -> io::Result<Score> {
    let sound = super::run(&mutant.options(base, false))?;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let mut options = mutant.options(base, true);
        options.seed = base.seed.map(|seed| seed + attempts);
        let mutated = super::run(&options)?;
        if mutant.shows(&mutated) || attempts == ATTEMPTS {
            return Ok(Score {
                mutant,
                sound,
                mutated,
                attempts,
            });
        }
    }
}

/// The head of the table.
pub const HEAD: &str =
    "| rule | mutation | scenario | all rules | without it | |\n|---|---|---|---|---|---|";
