//! What the operating system knows of this process, read from `/proc`. Where
//! that is absent every figure is zero: they are for people, and no answer
//! fails for want of one.

use std::fs;

/// Memory and processor time of this process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// Resident bytes now.
    pub resident: u64,
    /// The most resident bytes there ever were.
    pub resident_peak: u64,
    /// Seconds spent in user mode.
    pub user: f64,
    /// Seconds spent in the kernel.
    pub system: f64,
}

/// Linux counts processor time for user space in hundredths of a second,
/// whatever its own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Read the figures.
pub(super) fn usage() -> Usage {
    let mut usage = Usage::default();
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        usage.resident = kilobytes(&status, "VmRSS:") * 1024;
        usage.resident_peak = kilobytes(&status, "VmHWM:") * 1024;
    }
    if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
        // The process's name may hold spaces, so that counting starts behind it.
        let mut fields = stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .split_ascii_whitespace();
        let mut seconds = |skip| {
            let ticks: Option<f64> = fields.nth(skip).and_then(|field| field.parse().ok());
            ticks.unwrap_or(0.0) / TICKS_PER_SECOND
        };
        usage.user = seconds(11);
        usage.system = seconds(0);
    }
    usage
}

fn kilobytes(status: &str, name: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_has_memory() {
        let usage = usage();
        assert!(usage.resident > 0);
        assert!(usage.resident_peak >= usage.resident);
    }
}
