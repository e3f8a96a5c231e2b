//! The guide against the code: a page that lags behind misleads.

#![allow(clippy::unwrap_used)]

mod admin_support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use admin_support::{ask, running, start};
use emberline::config::{self, Environment, Source};
use emberline::dns::Question;
use emberline::metrics::{Class, Event, OTHER, Verdict};
use emberline::running::{DeleteLog, Preload};
use emberline_protocol::memcache::Verb;
use emberline_protocol::redis::command::{COMMANDS, Class as Redis};
use emberline_routing::PoolId;

fn page(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(root.join(name)).unwrap()
}

/// The text between this heading and the next one.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page
        .split_once(&format!("{heading}\n"))
        .unwrap_or_else(|| panic!("no heading {heading:?}"));
    rest.split_once("\n#").map_or(rest, |(section, _)| section)
}

#[test]
fn every_command_stands_where_its_class_is_described() {
    let page = page("docs/commands.md");
    for command in &COMMANDS {
        let heading = match command.class {
            Redis::Single => "### To the server of its key",
            Redis::SameShard => "### To one server, if all keys are there",
            Redis::Split(_) => "### Taken apart",
            Redis::FanOut(_) => "### To every server",
            Redis::Local => "### Answered by the proxy",
            Redis::Later(_) => "### Not yet",
            Redis::Refused(_) => "### Refused",
        };
        let name = format!("`{}`", command.name);
        assert!(
            section(&page, heading).contains(&name),
            "{name} under {heading}"
        );
    }
    let memcached = section(&page, "## memcached");
    for verb in Verb::ALL {
        assert!(
            memcached.contains(&format!("`{}`", verb.name())),
            "{}",
            verb.name()
        );
    }
}

#[test]
fn the_example_in_the_readme_is_a_configuration() {
    let page = page("README.md");
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let source = Source::new("README.md", example);
    let (running, report) = config::load(&source, &Environment::process());
    assert!(running.is_some(), "{}", report.render(&source));
    assert_eq!(report.render(&source).to_string(), "");
}

#[test]
fn every_metric_is_listed_and_every_listed_one_exists() {
    let mut running = running("r", 1, 1);
    let path = std::env::temp_dir().join(format!("emberline-docs-{}", std::process::id()));
    running.pools[0].delete_log = Some(DeleteLog {
        path: path.clone(),
        bytes_max: 1 << 20,
        age_max: Duration::from_secs(60),
    });
    running.preload = Some(Preload {
        path: path.with_extension("hot"),
        keys_max: 1,
        bytes_max: 1,
        deadline: Duration::ZERO,
        hold: Duration::ZERO,
        save_every: Duration::from_secs(60),
    });
    let name = Question::Host("cache".to_owned());
    running.dns.questions.insert(name);
    let site = start(running);
    std::fs::remove_file(path).unwrap();
    let view = site.state.view();
    view.meters[0].request(0, None, OTHER, Verdict::Refused);
    view.meters[0].latency(PoolId(0), Class::Read, 1);
    view.meters[0].event(0, Event::Hit, 1);
    view.meters[0].strange(0);
    let (_, text) = ask(site.status(), "GET", "/metrics");
    let exist: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            (name.to_owned(), kind.to_owned())
        })
        .collect();
    let page = page("docs/operations.md");
    let listed: BTreeSet<_> = section(&page, "## Metrics")
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| {
            let (name, rest) = line.split_once("` | ").unwrap();
            let (kind, _) = rest.split_once(' ').unwrap();
            (name.to_owned(), kind.to_owned())
        })
        .collect();
    assert_eq!(exist, listed);
}
