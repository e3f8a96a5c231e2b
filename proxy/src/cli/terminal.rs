//! What commands say, on standard output and standard error.
//!
//! The standard library's `print!` panics where nobody reads or a disk is
//! full. Here a reader that went away, such as `head`, has had enough, any
//! other failure to write to standard output is an error, and a failure to
//! write to standard error has nobody left to be told to.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use crate::config::{Report, Source};

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const BLUE: &str = "\x1b[34m";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// Print the text that the command was asked for.
pub fn print(text: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("cannot write: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// One line about what went wrong.
pub fn complain(text: impl Display) {
    note(format_args!("emberline: {text}\n"));
}

/// Text beside the result.
pub fn note(text: impl Display) {
    let _ = write!(io::stderr(), "{text}");
}

/// What is wrong with a configuration; in colours where somebody sees them.
pub fn show(report: &Report, source: &Source) {
    let text = report.render(source);
    // https://no-color.org: set to anything but nothing.
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match io::stderr().is_terminal() && !plain {
        true => note(paint(&text)),
        false => note(text),
    }
}

/// A report's text with colours. Its lines tell by their beginning what they
/// are, and what they quote holds no control characters.
fn paint(text: &str) -> String {
    text.lines()
        .map(|line| painted(line) + "\n")
        .collect::<String>()
}

fn painted(line: &str) -> String {
    for (word, colour) in [("error", RED), ("warning", YELLOW)] {
        if let Some(message) = line
            .strip_prefix(word)
            .filter(|rest| rest.starts_with(": "))
        {
            return format!("{colour}{word}{PLAIN}{BOLD}{message}{PLAIN}");
        }
    }
    // `12 | text`, `   | ^^^^ hint` and `  --> file:12:1`.
    let gutter = line.trim_start_matches([' ', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
    let edge = line.len() - gutter.len();
    for mark in ["|", "-->"] {
        let Some(rest) = gutter.strip_prefix(mark) else {
            continue;
        };
        let carets = match line[..edge].trim().is_empty() {
            true => rest.trim_start().bytes().take_while(|&b| b == b'^').count(),
            false => 0,
        };
        let lead = rest.len() - rest.trim_start().len();
        let (before, after) = rest.split_at(lead + carets);
        let (space, caret) = before.split_at(lead);
        return match carets {
            0 => format!("{BLUE}{}{mark}{PLAIN}{rest}", &line[..edge]),
            _ => format!(
                "{BLUE}{}{mark}{PLAIN}{space}{RED}{caret}{after}{PLAIN}",
                &line[..edge]
            ),
        };
    }
    line.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_change_nothing_but_the_colour() {
        let check = |line: &str, shown: &str| {
            let painted = painted(line).replace('\x1b', "");
            assert_eq!(painted, shown);
        };
        check("error: no `x`", "[1;31merror[0m[1m: no `x`[0m");
        check("  --> f:12:1", "[34m  -->[0m f:12:1");
        check("12 | a = ^^", "[34m12 |[0m a = ^^");
        check("   | ^^ hint", "[34m   |[0m [1;31m^^ hint[0m");
        check("   |", "[34m   |[0m");
        check("", "");
        check("  a hint", "  a hint");
    }
}
