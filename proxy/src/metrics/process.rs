//! The `process_*` metrics, read from `/proc`; whatever cannot be read is left out.

use std::fs;

use prometheus::proto::MetricFamily;

use super::family::Family;

/// The unit of times in `/proc/self/stat`. The kernel converts to it for user
/// space whatever its own tick is, on every architecture we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// All families that this system can tell.
pub(super) fn families() -> Vec<MetricFamily> {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let families = [
        cpu_seconds(&stat).map(|value| {
            let help = "User and system CPU time spent.";
            counter("process_cpu_seconds_total", help, value)
        }),
        start_time(&stat).map(|value| {
            let help = "When the process started, in seconds since the Unix epoch.";
            gauge("process_start_time_seconds", help, value)
        }),
        kilobytes(&status, "VmRSS:").map(|value| {
            let help = "Resident memory.";
            gauge("process_resident_memory_bytes", help, value)
        }),
        kilobytes(&status, "VmSize:").map(|value| {
            let help = "Virtual memory.";
            gauge("process_virtual_memory_bytes", help, value)
        }),
        open_fds().map(|value| gauge("process_open_fds", "Open file descriptors.", value)),
        max_fds().map(|value| {
            let help = "File descriptors that may be open at once.";
            gauge("process_max_fds", help, value)
        }),
    ];
    families
        .into_iter()
        .flatten()
        .filter_map(Family::finish)
        .collect()
}

/// CPU seconds of the whole process so far.
pub fn cpu_time() -> Option<f64> {
    cpu_seconds(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// Resident memory in bytes.
pub fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    kilobytes(&status, "VmRSS:").map(|bytes| bytes as u64)
}

fn counter(name: &str, help: &str, value: f64) -> Family {
    let mut family = Family::counter(name, help);
    family.push(&[], value);
    family
}

fn gauge(name: &str, help: &str, value: f64) -> Family {
    let mut family = Family::gauge(name, help);
    family.push(&[], value);
    family
}

/// Field `n` of proc(5)'s stat line, counted from 1 as the manual does. The
/// second field is the program's name in parentheses and may hold spaces, so
/// counting starts behind its last parenthesis.
fn stat_field(stat: &str, n: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(n.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS_PER_SECOND)
}

fn start_time(stat: &str) -> Option<f64> {
    let since_boot = stat_field(stat, 22)? / TICKS_PER_SECOND;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = system
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    Some(boot + since_boot)
}

fn kilobytes(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

/// One less than is listed: reading the directory takes one itself.
fn open_fds() -> Option<f64> {
    let listed = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(listed.saturating_sub(1) as f64)
}

fn max_fds() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_spaces_does_not_shift_the_fields() {
        let stat = "42 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 700 0 0";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(stat_field(stat, 22), Some(700.0));
        assert_eq!(cpu_seconds("garbage"), None);
    }

    #[test]
    fn this_process_is_told() {
        assert_eq!(families().len(), 6);
        assert!(resident().is_some_and(|bytes| bytes > 100_000));
        assert!(cpu_time().is_some());
    }
}
