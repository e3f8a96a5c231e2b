//! What a user is told about a broken configuration, word for word.
//!
//! Every `tests/data/config/NAME.toml` has its report in `NAME.txt`.
//! `EMBERLINE_BLESS=1` writes the reports anew; read the diff before you keep
//! it.

use std::fs;
use std::path::{Path, PathBuf};

use emberline::config::{self, Environment, Source};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config")
}

fn check(name: &str) {
    let path = directory().join(format!("{name}.toml"));
    let text = fs::read_to_string(&path).expect("the case is there");
    let source = Source::new(format!("{name}.toml"), text);
    let environment = Environment {
        variable: &|name| (name == "SET").then(|| "secret".to_owned()),
        directory: None,
        cpus: 4,
        files: std::sync::Arc::default(),
    };
    let (running, report) = config::load(&source, &environment);
    assert_eq!(running.is_none(), report.has_errors(), "{name}");
    let shown = report.render(&source);
    assert!(
        !shown.contains("hunter2"),
        "{name} shows a password:\n{shown}"
    );

    let golden = directory().join(format!("{name}.txt"));
    if std::env::var_os("EMBERLINE_BLESS").is_some() {
        fs::write(&golden, &shown).expect("the report can be written");
    }
    let expected = fs::read_to_string(&golden).expect("the report is there");
    assert_eq!(shown, expected, "{name}");
}

#[test]
fn mistyped_keys_values_and_kinds() {
    check("typos");
    check("kinds");
}

#[test]
fn names_cycles_and_protocols() {
    check("names");
}

#[test]
fn routes_that_cannot_be_meant() {
    check("routes");
}

#[test]
fn commands_to_allow_or_deny() {
    check("commands");
}

#[test]
fn pools_that_cannot_work() {
    check("pools");
}

#[test]
fn addresses_that_clash_or_reach_too_far() {
    check("binds");
}

#[test]
fn passwords_and_variables() {
    check("secrets");
}

#[test]
fn broken_syntax() {
    check("syntax");
    check("duplicates");
    check("empty");
}

#[test]
fn warnings_leave_the_configuration_usable() {
    check("warnings");
}

#[test]
fn hot_keys_and_the_l1() {
    check("hotkey");
    check("l1");
    check("l1_preload");
    check("l1_preload_unused");
    check("heat_warnings");
}

#[test]
fn an_l1_without_hot_keys() {
    check("disabled");
}

#[test]
fn a_bus_that_cannot_be_reached() {
    check("bus");
    check("bus_password");
}

/// A case that no test names would never be looked at.
#[test]
fn every_case_is_checked() {
    let this = include_str!("config_diagnostics.rs");
    for entry in fs::read_dir(directory()).expect("the cases are there") {
        let path = entry.expect("a readable directory").path();
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .expect("a plain name");
        assert!(this.contains(&format!("check(\"{name}\")")), "{name}");
    }
}
