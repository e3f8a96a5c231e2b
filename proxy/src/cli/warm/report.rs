//! What `emberline warm` says at its end.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Warm;
use crate::metrics::hotkeys::bytes;
use crate::warm::Summary;

/// For a person. Writing into a String cannot fail.
pub fn text(summary: &Summary, args: &Warm) -> String {
    let tally = &summary.tally;
    let copied = tally.copied();
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} {} keys ({}) from `{}` to `{}` in {:.1} s",
        if args.dry_run { "would copy" } else { "copied" },
        copied.keys,
        bytes(copied.bytes as f64),
        args.from,
        args.to,
        summary.took.as_secs_f64()
    );
    if summary.complete_before {
        text.push_str(
            "  the checkpoint says that all was copied before; remove it to begin anew\n",
        );
    }
    for name in &summary.restarted {
        let _ = writeln!(
            text,
            "  {name} was restarted since the checkpoint, so everything was begun anew"
        );
    }
    for (name, one) in &tally.targets {
        let _ = writeln!(
            text,
            "  {name}: {} keys, {}",
            one.keys,
            bytes(one.bytes as f64)
        );
    }
    for (count, _, why) in tally.skipped() {
        if count > 0 {
            let _ = writeln!(text, "  {count} {why}");
        }
    }
    if tally.refused > 0 {
        let _ = writeln!(text, "  {} were refused by a server:", tally.refused);
        for one in &tally.refusals {
            let _ = writeln!(text, "    {one}");
        }
    }
    for (name, latency) in &summary.latencies {
        let _ = writeln!(
            text,
            "  source {name} as others saw it: p50 {}, p99 {}{}",
            millis(latency.p50),
            millis(latency.p99),
            match latency.halvings {
                0 => String::new(),
                times => format!("; slowed down {times} times"),
            }
        );
    }
    for (name, why) in &summary.failed {
        let _ = writeln!(text, "  {name} was given up: {why}");
    }
    if let Some(error) = &summary.checkpoint_error {
        let _ = writeln!(text, "  {error}");
    }
    if summary.interrupted {
        text.push_str(match args.checkpoint {
            Some(_) => "  interrupted; the same command goes on from the checkpoint\n",
            None => "  interrupted; the same command begins anew, and skips what is there\n",
        });
    }
    text
}

fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// For programs.
pub fn json(summary: &Summary, args: &Warm) -> Value {
    let micros = |time: Duration| json!(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    let sources: Map<String, Value> = summary
        .latencies
        .iter()
        .map(|(name, latency)| {
            let value = json!({
                "p50_us": micros(latency.p50),
                "p99_us": micros(latency.p99),
                "slowed_down": latency.halvings,
            });
            (name.clone(), value)
        })
        .collect();
    let failed = summary.failed.iter();
    let failed: Map<String, Value> = failed
        .map(|(name, why)| (name.clone(), json!(why)))
        .collect();
    let mut value = summary.tally.json();
    let more = json!({
        "from": args.from,
        "to": args.to,
        "dry_run": args.dry_run,
        "whole": summary.is_whole(),
        "interrupted": summary.interrupted,
        "complete_before": summary.complete_before,
        "restarted": summary.restarted,
        "checkpoint_error": summary.checkpoint_error,
        "failed": failed,
        "sources": sources,
        "seconds": summary.took.as_secs_f64(),
    });
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}
