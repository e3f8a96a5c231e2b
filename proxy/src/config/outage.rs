//! What pools say of servers that fail, checked: gutters, probes, delete logs.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::files::full_path;
use super::model::{DeleteLog, PoolTable};
use super::suggest::did_you_mean;
use super::units::Time;
use super::{Config, Environment, Report};

/// The longest salt, in bytes.
const SALT_MAX: usize = 64;

/// Check every pool's keys against each other and against other pools.
pub fn check(config: &Config, environment: &Environment<'_>, report: &mut Report) {
    let mut told = Told::new();
    for (name, pool) in &config.pools {
        check_gutter(config, name, pool, &mut told, report);
        check_figures(pool, &mut told, report);
    }
    check_delete_logs(config, environment, report);
}

/// Places that an error was told of: what pools take over is told once.
type Told = HashSet<usize>;

fn once(told: &mut Told, span: &Range<usize>) -> bool {
    told.insert(span.start)
}

fn check_gutter(
    config: &Config,
    name: &str,
    pool: &PoolTable,
    told: &mut Told,
    report: &mut Report,
) {
    let gutter = pool.on_down.as_ref().and_then(|at| at.gutter());
    let Some(gutter) = gutter else {
        if let Some(ttl) = &pool.gutter_ttl
            && once(told, &ttl.span)
        {
            let message = format!("`gutter_ttl` has no meaning in pool `{name}`: it has no gutter");
            report.error(&ttl.span, message);
        }
        return;
    };
    let Some(spare) = config.pools.get(&gutter.value) else {
        if once(told, &gutter.span) {
            let known = config.pools.keys().map(String::as_str);
            let hint = match report.is_full() {
                true => None,
                false => did_you_mean(&gutter.value, known.take(1000)),
            };
            let shown: String = gutter.value.chars().take(64).collect();
            report.error_hint(&gutter.span, format!("there is no pool \"{shown}\""), hint);
        }
        return;
    };
    let (ours, theirs) = (&pool.protocol, &spare.protocol);
    let message = if gutter.value == name {
        format!("pool `{name}` cannot be its own gutter")
    } else if let (Some(ours), Some(theirs)) = (ours, theirs)
        && ours.value != theirs.value
    {
        let (ours, theirs) = (ours.name(), theirs.name());
        format!(
            "pool `{}` speaks {theirs} and pool `{name}` {ours}",
            gutter.value
        )
    } else if spare
        .on_down
        .as_ref()
        .is_some_and(|at| at.gutter().is_some())
    {
        format!("pool `{}` is a gutter and has one itself", gutter.value)
    } else {
        return;
    };
    if once(told, &gutter.span) {
        report.error(&gutter.span, message);
    }
}

fn check_figures(pool: &PoolTable, told: &mut Told, report: &mut Report) {
    let health = pool.health();
    let probe = pool.probe_first.as_ref().or(pool.probe_last.as_ref());
    if health.probe_first > health.probe_last
        && let Some(at) = probe
        && once(told, &at.span)
    {
        let message = format!(
            "`probe_first` is {}, above the `probe_last` of {}",
            Time(health.probe_first),
            Time(health.probe_last)
        );
        report.error(&at.span, message);
    }
    if let Some(salt) = &pool.salt
        && (salt.value.len() > SALT_MAX || salt.value.chars().any(char::is_control))
        && once(told, &salt.span)
    {
        let message =
            format!("`salt` has more than {SALT_MAX} bytes or a control character among them");
        report.error(&salt.span, message);
    }
}

/// Two pools that append to one file would replay each other's deletes.
fn check_delete_logs(config: &Config, environment: &Environment<'_>, report: &mut Report) {
    let mut seen: HashMap<PathBuf, &str> = HashMap::new();
    for (name, pool) in &config.pools {
        let Some(log) = &pool.delete_log else {
            continue;
        };
        let path = full_path(&log.path.value, environment);
        warn_of_delete_log(name, pool, log, &path, report);
        if let Some(other) = seen.insert(path, name) {
            let message = format!("pools `{other}` and `{name}` cannot share a delete log");
            report.error(&log.path.span, message);
        }
    }
}

/// What works, but hardly as it is meant.
fn warn_of_delete_log(
    name: &str,
    pool: &PoolTable,
    log: &DeleteLog,
    path: &Path,
    report: &mut Report,
) {
    let at = &log.path.span;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        let shown = parent.display();
        report.warning(at, format!("pool `{name}`: there is no directory {shown}"));
    }
    if path.starts_with("/tmp") || path.starts_with("/dev/shm") {
        let message = format!("pool `{name}`: its delete log may not survive a restart");
        report.warning(at, message);
    }
    let probe_last = pool.health().probe_last;
    if log.age_max <= probe_last {
        let message = format!(
            "pool `{name}`: a delete waits for {} at most, and a server that is down is probed \
             every {}",
            Time(log.age_max),
            Time(probe_last)
        );
        report.warning(&log.span, message);
    }
}
