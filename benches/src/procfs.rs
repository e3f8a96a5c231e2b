//! What Linux says about a process: CPU time and memory.

use std::fs;
use std::io;
use std::time::Duration;

/// Ticks per second in `/proc/PID/stat`. The kernel scales to this constant of
/// its user interface (USER_HZ) whatever its own timer frequency is.
const USER_HZ: u64 = 100;

/// User and system time of all threads of a process, those that have ended included.
///
/// The resolution is 10 ms for each of the two, so a figure is worth about 1 %
/// when at least a second was spent.
pub fn cpu(pid: u32) -> io::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    cpu_of_stat(&text).ok_or_else(|| unreadable("stat", pid))
}

/// Resident bytes of a process.
///
/// `smaps_rollup` is exact; `VmRSS` lags by up to some pages per CPU, which
/// matters where growth per connection is measured, and is the second choice.
pub fn rss(pid: u32) -> io::Result<u64> {
    if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        && let Some(bytes) = kilobytes(&text, "Rss:")
    {
        return Ok(bytes);
    }
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    kilobytes(&text, "VmRSS:").ok_or_else(|| unreadable("status", pid))
}

fn unreadable(file: &str, pid: u32) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("/proc/{pid}/{file} has an unexpected form"),
    )
}

/// Fields 14 and 15, counted behind the command name, which may hold spaces and parentheses.
fn cpu_of_stat(text: &str) -> Option<Duration> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = user.checked_add(system)?;
    Some(Duration::from_millis(ticks.checked_mul(1000 / USER_HZ)?))
}

/// The value of a line `label: 123 kB`, in bytes.
fn kilobytes(text: &str, label: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    let number = rest.trim().strip_suffix("kB")?.trim();
    number.parse::<u64>().ok()?.checked_mul(1024)
}

/// The first processor's model name.
pub fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line
        .and_then(|line| line.split_once(':'))
        .map(|(_, name)| name.trim());
    name.unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_name() {
        let text = "12 (a) b (c) S 1 2 3 4 -1 4194560 100 0 0 0 250 50 7 8 20 0 4 0 999 1 2";
        assert_eq!(cpu_of_stat(text), Some(Duration::from_secs(3)));
        assert_eq!(cpu_of_stat("12 (a) S 1"), None);
        assert_eq!(cpu_of_stat(""), None);
    }

    #[test]
    fn memory_lines_are_kilobytes() {
        let text = "VmPeak:\t  99 kB\nVmRSS:\t    1234 kB\n";
        assert_eq!(kilobytes(text, "VmRSS:"), Some(1234 * 1024));
        assert_eq!(kilobytes(text, "VmHWM:"), None);
        assert_eq!(kilobytes("VmRSS: x kB", "VmRSS:"), None);
    }

    #[test]
    fn this_process_has_both() {
        let pid = std::process::id();
        assert!(rss(pid).unwrap() > 100_000);
        let start = cpu(pid).unwrap();
        let mut sum = 0u64;
        while cpu(pid).unwrap() == start {
            sum = (0..10_000).fold(sum, u64::wrapping_add);
        }
        assert!(std::hint::black_box(sum) > 0);
    }
}
