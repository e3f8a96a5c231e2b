//! The record of a run, as Markdown: for the terminal and for `benches/records/`.

use std::fmt::Write;

use super::cells::{CONNECTIONS, Cell, Gate};
use super::footprint::Footprint;
use super::rounds::{Plan, Series};
use super::stats::{median, paired, range};

/// Bytes per idle connection that the first gate allows.
const CONNECTION_GATE: f64 = 2048.0;

/// Growth during a large value that the gate allows.
const LARGE_GATE: u64 = 16 << 20;

/// Everything a run found.
#[derive(Debug)]
pub struct Record {
    /// The day, as YYYY-MM-DD.
    pub date: String,
    /// Machine and versions: what and which.
    pub facts: Vec<(String, String)>,
    /// How long was measured.
    pub plan: Plan,
    /// What counted the system calls.
    pub counter: Option<&'static str>,
    /// Per cell.
    pub cells: Vec<CellResult>,
    /// Per program.
    pub footprints: Vec<(&'static str, Footprint)>,
}

/// One cell's figures.
#[derive(Debug)]
pub struct CellResult {
    /// Which cell.
    pub cell: Cell,
    /// CPU time and rates per peer.
    pub series: Vec<Series>,
    /// System calls per request, per peer; empty when they were not counted.
    pub syscalls: Vec<(&'static str, Result<f64, String>)>,
}

impl CellResult {
    fn of(&self, name: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.name == name)
    }

    /// One peer's CPU time over another's, paired by round; none if either failed.
    pub fn ratio(&self, ours: &str, theirs: &str) -> Option<f64> {
        let sound = |name| self.of(name).filter(|series| series.failure.is_none());
        paired(&sound(ours)?.cpu, &sound(theirs)?.cpu)
    }
}

impl Record {
    /// The whole record.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        // Writing into a String cannot fail.
        let _ = writeln!(out, "# Side by side, {}\n", self.date);
        for (what, which) in &self.facts {
            let _ = writeln!(out, "* {what}: {which}");
        }
        let _ = writeln!(
            out,
            "\nOne worker thread each, {CONNECTIONS} connections, two servers of each kind, everything on \
             loopback. {} interleaved rounds of {:.1} s per cell and peer, after a warm-up of {:.1} s that is \
             not counted. CPU is user and system time of the process over its requests, in microseconds: the \
             median over the rounds, and the smallest and largest. Ratios are medians over rounds: of \
             emberline / nutcracker; in cells named hot, where every key is promoted from the start, over \
             redis-server; in cells named detector, where none ever is, of on / off. Requests per second are for information only, since the load generator \
             shares the processors. `redis-server` and `memcached` are one server without any proxy.",
            self.plan.rounds,
            self.plan.time.as_secs_f64(),
            self.plan.warm.as_secs_f64()
        );
        self.cpu(&mut out);
        self.system_calls(&mut out);
        self.sizes(&mut out);
        self.gates(&mut out);
        out
    }

    fn cpu(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "\n## CPU per request\n\n| cell | peer | us/request | min - max | ratio | requests/s |\n|---|---|---|---|---|---|"
        );
        for result in &self.cells {
            for series in &result.series {
                let cpu = number(median(&series.cpu), 2);
                let range = range(&series.cpu)
                    .map_or("-".into(), |(min, max)| format!("{min:.2} - {max:.2}"));
                let reference = result.cell.group.reference();
                let ratio = match series.name {
                    "emberline" | "l1 ttl" | "l1 tracking" | "detector on" => {
                        number(result.ratio(series.name, reference), 2)
                    }
                    _ => String::new(),
                };
                let rate = number(median(&series.rate), 0);
                let _ = write!(
                    out,
                    "| {} | {} | {cpu} | {range} | {ratio} | {rate} |",
                    result.cell.name, series.name
                );
                let _ = match &series.failure {
                    Some(failure) => writeln!(out, " **{}**", plain(failure)),
                    None => writeln!(out),
                };
            }
        }
    }

    fn system_calls(&self, out: &mut String) {
        let Some(counter) = self.counter else { return };
        let _ = writeln!(
            out,
            "\n## System calls per request ({counter}, runs of their own)\n\n| cell | peer | calls/request |\n|---|---|---|"
        );
        for result in &self.cells {
            for (name, calls) in &result.syscalls {
                let calls = match calls {
                    Ok(calls) => format!("{calls:.2}"),
                    Err(error) => format!("- ({})", plain(error)),
                };
                let _ = writeln!(out, "| {} | {name} | {calls} |", result.cell.name);
            }
        }
    }

    fn sizes(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "\n## Memory and start\n\n| peer | start to first answer, ms | idle RSS, MiB | bytes per idle redis connection | memcached connection | 256 MiB value: SET, MiB | GET, MiB |\n|---|---|---|---|---|---|---|"
        );
        for (name, footprint) in &self.footprints {
            let _ = writeln!(
                out,
                "| {name} | {} | {} | {} | {} | {} | {} |",
                number(footprint.start.map(|start| start.as_secs_f64() * 1e3), 1),
                mebibytes(footprint.idle),
                number(footprint.redis_connection, 0),
                number(footprint.memcached_connection, 0),
                mebibytes(footprint.large.map(|large| large.set)),
                mebibytes(footprint.large.map(|large| large.get)),
            );
        }
        for (name, footprint) in &self.footprints {
            for failure in &footprint.failures {
                let _ = writeln!(out, "\n{name}: {}", plain(failure));
            }
        }
    }

    fn gates(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "\n## Gates\n\n| what | limit | measured | verdict |\n|---|---|---|---|"
        );
        for result in &self.cells {
            for &Gate {
                ours,
                theirs,
                limit,
            } in result.cell.gates
            {
                let ratio = result.ratio(ours, theirs);
                gate(
                    out,
                    &format!("{}, CPU, {ours} / {theirs}", result.cell.name),
                    &format!("{limit:.2}"),
                    &number(ratio, 2),
                    ratio.map(|ratio| ratio <= limit),
                );
            }
        }
        let Some((_, ours)) = self
            .footprints
            .iter()
            .find(|(name, _)| *name == "emberline")
        else {
            return;
        };
        for (what, bytes) in [
            ("bytes per idle redis connection", ours.redis_connection),
            (
                "bytes per idle memcached connection",
                ours.memcached_connection,
            ),
        ] {
            let verdict = bytes.map(|bytes| bytes <= CONNECTION_GATE);
            gate(
                out,
                what,
                &number(Some(CONNECTION_GATE), 0),
                &number(bytes, 0),
                verdict,
            );
        }
        let large = ours.large.map(|large| large.set.max(large.get));
        let verdict = large.map(|bytes| bytes < LARGE_GATE);
        gate(
            out,
            "RSS growth for a 256 MiB value, MiB",
            &mebibytes(Some(LARGE_GATE)),
            &mebibytes(large),
            verdict,
        );
    }
}

fn gate(out: &mut String, what: &str, limit: &str, measured: &str, verdict: Option<bool>) {
    let verdict = match verdict {
        Some(true) => "met",
        Some(false) => "**missed**",
        None => "not measured",
    };
    let _ = writeln!(out, "| {what} | {limit} | {measured} | {verdict} |");
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

fn mebibytes(bytes: Option<u64>) -> String {
    number(bytes.map(|bytes| bytes as f64 / f64::from(1 << 20)), 1)
}

/// Text that does not break a table.
fn plain(text: &str) -> String {
    text.replace(['|', '\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::cells::CELLS;
    use super::super::memory::Growth;
    use super::*;

    #[test]
    fn gates_are_judged_by_paired_ratios() {
        let series = |name, cpu: [f64; 3]| Series {
            name,
            cpu: cpu.to_vec(),
            rate: vec![1.0],
            failure: None,
        };
        let cell = |index: usize, ours| CellResult {
            cell: CELLS[index],
            series: vec![
                series("emberline", ours),
                series("nutcracker", [10.0, 20.0, 10.0]),
            ],
            syscalls: vec![("emberline", Ok(2.5)), ("nutcracker", Err("a | b".into()))],
        };
        let record = Record {
            date: "2026-01-02".into(),
            facts: vec![("kernel".into(), "6".into())],
            plan: Plan {
                rounds: 3,
                time: Duration::from_secs(1),
                warm: Duration::from_secs(1),
            },
            counter: Some("perf stat"),
            cells: vec![cell(0, [5.0, 10.0, 5.0]), cell(1, [5.0, 10.0, 5.0])],
            footprints: vec![(
                "emberline",
                Footprint {
                    redis_connection: Some(600.0),
                    large: Some(Growth {
                        set: 1 << 20,
                        get: 20 << 20,
                    }),
                    ..Footprint::default()
                },
            )],
        };
        let text = record.markdown();
        for line in [
            "| GET P=1, CPU, emberline / nutcracker | 0.90 | 0.50 | met |",
            "| GET P=16, CPU, emberline / nutcracker | 0.40 | 0.50 | **missed** |",
            "| bytes per idle redis connection | 2048 | 600 | met |",
            "| bytes per idle memcached connection | 2048 | - | not measured |",
            "| RSS growth for a 256 MiB value, MiB | 16.0 | 20.0 | **missed** |",
            "| GET P=1 | nutcracker | - (a   b) |",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
