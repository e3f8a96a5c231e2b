//! Logging: text on a terminal, JSON otherwise, always to standard error.
//!
//! The environment variable `EMBERLINE_LOG` chooses what is logged, in
//! tracing's filter syntax: `warn`, or `info,emberline::server=debug`.
//!
//! Two rules for whoever writes a log line: no keys' values and no
//! credentials, whatever the level; and a line that a client or a server can
//! cause over and over goes through a [`Limited`].

use std::env::{self, VarError};
use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;

/// The variable that holds the filter.
const FILTER: &str = "EMBERLINE_LOG";

/// What a log line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Text if standard error is a terminal, JSON if not.
    #[default]
    Auto,
    /// One line for people.
    Text,
    /// One JSON object per line, for collectors.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter does not parse.
    #[error("{FILTER} is not a filter such as \"info\" or \"warn,emberline=debug\": {0}")]
    Filter(String),
    /// Something in this process logs already.
    #[error("logging is set up already")]
    Twice,
}

/// Log from here on. Call it once, before threads start.
///
/// # Errors
///
/// When `EMBERLINE_LOG` does not parse, or logging is set up already.
pub fn init(format: Format) -> Result<(), LogError> {
    let terminal = io::stderr().is_terminal();
    let json = match format {
        Format::Auto => !terminal,
        Format::Text => false,
        Format::Json => true,
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter(env::var(FILTER))?)
        .with_writer(io::stderr);
    let set = if json {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.with_ansi(terminal).with_target(false).try_init()
    };
    set.map_err(|_| LogError::Twice)
}

fn filter(variable: Result<String, VarError>) -> Result<EnvFilter, LogError> {
    match variable {
        Ok(text) if !text.trim().is_empty() => {
            EnvFilter::try_new(&text).map_err(|error| LogError::Filter(error.to_string()))
        }
        Ok(_) | Err(VarError::NotPresent) => Ok(EnvFilter::new("info")),
        Err(VarError::NotUnicode(_)) => Err(LogError::Filter("not Unicode".to_owned())),
    }
}

/// Lets a few repetitions of a log line through per second and counts the rest.
///
/// ```
/// use emberline::log::Limited;
/// static BROKEN: Limited = Limited::new(5);
///
/// if let Some(skipped) = BROKEN.admit() {
///     tracing::warn!(skipped, "a server sent something that is not a reply");
/// }
/// ```
#[derive(Debug)]
pub struct Limited {
    per_second: u32,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    start: Option<Instant>,
    admitted: u32,
    skipped: u64,
}

impl Limited {
    /// At most `per_second` lines in any second that starts with one.
    pub const fn new(per_second: u32) -> Limited {
        Limited {
            per_second,
            window: Mutex::new(Window {
                start: None,
                admitted: 0,
                skipped: 0,
            }),
        }
    }

    /// Whether to log now, and how many lines were skipped since the last that was.
    pub fn admit(&self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let over = window
            .start
            .is_none_or(|start| now.saturating_duration_since(start) >= Duration::from_secs(1));
        if over {
            window.start = Some(now);
            window.admitted = 0;
        }
        if window.admitted >= self.per_second {
            window.skipped += 1;
            return None;
        }
        window.admitted += 1;
        Some(std::mem::take(&mut window.skipped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_counted_until_one_passes_again() {
        let limited = Limited::new(2);
        let start = Instant::now();
        let at = |ms| limited.admit_at(start + Duration::from_millis(ms));
        assert_eq!([at(0), at(1)], [Some(0), Some(0)]);
        assert_eq!([at(2), at(500), at(999)], [None, None, None]);
        assert_eq!([at(1000), at(1001), at(1002)], [Some(3), Some(0), None]);
        assert_eq!(at(9000), Some(1));
    }

    #[test]
    fn a_filter_that_does_not_parse_is_named() {
        assert!(filter(Ok("info,emberline=debug".to_owned())).is_ok());
        assert!(filter(Err(VarError::NotPresent)).is_ok());
        let error = filter(Ok("emberline=loud".to_owned())).unwrap_err();
        assert!(error.to_string().starts_with("EMBERLINE_LOG is not"));
    }
}
