//! The checker: that it finds what is wrong with a proxy that is wrong on
//! purpose, and that it finds nothing wrong with Emberline, in every mode,
//! under faults, before real servers.
//!
//! Skips, saying so, where a server or the binary is missing; with
//! `EMBERLINE_REQUIRE_SERVERS` set that is a failure instead. No time is
//! asserted but the promises' own, with an allowance for busy machines
//! (`EMBERLINE_CHECK_ALLOWANCE_MS`).

#![allow(clippy::unwrap_used)]

mod checker_support;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use checker_support::Sickness;
use clap::Parser;
use emberline_benches::checker::faults::Fault;
use emberline_benches::checker::mutants;
use emberline_benches::checker::options::{Faults, Mode, Options};
use emberline_benches::checker::timeline::Rule;
use emberline_benches::checker::{self, Report, stage};
use emberline_benches::peers;
use emberline_benches::process::{Scratch, find};

/// What a busy machine is granted here on top of a promise.
const ALLOWANCE: Duration = Duration::from_millis(400);

/// One at a time: each run is several processes and a dozen threads.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

/// Options as they are read from the command line.
fn options(arguments: &str) -> Options {
    let words = std::iter::once("checker").chain(arguments.split_whitespace());
    let mut options = Arguments::try_parse_from(words).unwrap().options;
    if std::env::var_os("EMBERLINE_CHECK_ALLOWANCE_MS").is_none() {
        options.allowance = Some(ALLOWANCE);
    }
    options
}

/// Whether this program is there; panics where it must be.
fn present(name: &str, found: bool) -> bool {
    assert!(
        found || std::env::var_os("EMBERLINE_REQUIRE_SERVERS").is_none(),
        "{name} is missing"
    );
    if !found {
        eprintln!("skipped: {name} is missing");
    }
    found
}

/// Run the checker against a proxy that is wrong in this way.
fn against(sickness: Sickness, writers: &str) -> Option<Report> {
    let _turn = alone();
    if !present("redis-server", find("redis-server").is_some()) {
        return None;
    }
    let scratch = Scratch::new("sick").unwrap();
    let server = peers::redis::start(&scratch, "redis-server").unwrap();
    let server = server.redis.map(|port| (server, port));
    let (_server, port) = server.unwrap();
    let proxy = checker_support::start(sickness, port);
    let options = options(&format!(
        "--mode ttl --ttl 400ms --allowance 50ms --alone --faults none --seconds 1500ms --seed 3 \
         --no-ranges --writers {writers} --proxy-port {proxy} --server-port {port}"
    ));
    Some(checker::run(&options).unwrap())
}

/// It must break this rule, and none of those.
fn check(sickness: Sickness, writers: &str, broken: &[Rule], kept: &[Rule]) {
    let Some(report) = against(sickness, writers) else {
        return;
    };
    assert!(report.verdict.reads > 100, "{report}");
    for rule in broken {
        assert!(report.verdict.count(*rule) > 0, "{rule:?}: {report}");
    }
    for rule in kept {
        assert_eq!(report.verdict.count(*rule), 0, "{rule:?}: {report}");
    }
}

#[test]
fn a_proxy_that_passes_everything_on_is_clean() {
    check(Sickness::None, "proxy,pipelined,direct", &[], &Rule::ALL);
}

#[test]
fn r1_a_proxy_that_ignores_its_own_writes_is_caught() {
    check(
        Sickness::IgnoresWrites,
        "proxy,pipelined",
        &[Rule::OwnWrites],
        &[Rule::Written, Rule::Converges],
    );
}

#[test]
fn r2_a_proxy_of_two_minds_is_caught() {
    check(
        Sickness::TwoMinds,
        "direct,direct",
        &[Rule::Monotonic],
        &[Rule::OwnWrites, Rule::Written, Rule::Converges],
    );
}

#[test]
fn r3_and_r5_a_proxy_that_keeps_values_for_ever_is_caught() {
    check(
        Sickness::KeepsForEver,
        "direct,direct",
        &[Rule::Bounded, Rule::Converges],
        &[Rule::OwnWrites, Rule::Written],
    );
}

#[test]
fn r4_a_proxy_that_mixes_keys_is_caught() {
    check(Sickness::MixesKeys, "direct", &[Rule::Written], &[]);
}

#[test]
fn r4_a_proxy_that_cuts_values_is_caught() {
    check(Sickness::CutsValues, "direct", &[Rule::Written], &[]);
}

/// Emberline in one mode, with faults, for a short time.
fn kept(arguments: &str) {
    let _turn = alone();
    let options = options(&format!("--seconds 2500ms {arguments}"));
    let server = match arguments.contains("memcached") {
        true => "memcached",
        false => "redis-server",
    };
    let here = present(server, find(server).is_some())
        && (!options.bus || present("redis-server", find("redis-server").is_some()))
        && present("the emberline binary", stage::binary(&options).is_ok());
    if !here {
        return;
    }
    let report = checker::run(&options).unwrap();
    assert!(report.clean(), "{report}");
    assert!(report.verdict.reads > 100, "{report}");
    assert!(report.served() || !options.mode.remembers(), "{report}");
}

#[test]
fn redis_off() {
    kept("--mode off --seed 1");
}

#[test]
fn redis_observe() {
    kept("--mode observe --seed 2");
}

#[test]
fn redis_ttl() {
    kept("--mode ttl --seed 3");
}

#[test]
fn redis_ttl_with_a_bus() {
    kept("--mode ttl --bus --seed 4");
}

#[test]
fn redis_tracking() {
    kept("--mode tracking --seed 5");
}

#[test]
fn redis_tracking_of_keys_that_are_always_hot() {
    kept("--mode tracking --always --seed 6");
}

#[test]
fn memcached_off() {
    kept("--protocol memcached --mode off --seed 7");
}

#[test]
fn memcached_observe() {
    kept("--protocol memcached --mode observe --seed 8");
}

#[test]
fn memcached_ttl() {
    kept("--protocol memcached --mode ttl --seed 9");
}

#[test]
fn memcached_ttl_with_a_bus() {
    kept("--protocol memcached --mode ttl --bus --seed 10");
}

#[test]
fn memcached_revalidate() {
    kept("--protocol memcached --mode revalidate --seed 11");
}

#[test]
fn faults_are_named() {
    assert_eq!(options("--faults all").faults, Faults(Fault::ALL.to_vec()));
    assert_eq!(options("--faults none").faults, Faults::default());
    let two = Faults(vec![Fault::Restart, Fault::Doubt]);
    assert_eq!(options("--faults restart,doubt").faults, two);
    assert!(Arguments::try_parse_from(["checker", "--faults", "rain"]).is_err());
}

/// Every mutation that the proxy knows has a scenario, and the other way round.
#[test]
fn every_mutation_has_a_scenario() {
    let known = emberline_hotkey::mutation::Mutation::ALL.iter();
    let mut known: Vec<&str> = known.map(|mutation| mutation.name()).collect();
    let mut ours: Vec<&str> = mutants::ALL.iter().map(|mutant| mutant.name).collect();
    known.sort_unstable();
    ours.sort_unstable();
    assert_eq!(ours, known);
}

#[test]
fn a_memcached_cannot_track() {
    let wrong = options("--protocol memcached --mode tracking");
    assert!(wrong.check().unwrap_err().contains("memcached"));
    assert_eq!(options("--mode ttl").mode, Mode::Ttl);
    assert!(options("--mode revalidate").check().is_err());
}
