//! Everything that is wrong with a configuration, at once, with its place.
//!
//! ```text
//! error: unknown key `hsah` in [pools.sessions]
//!   --> emberline.toml:12:1
//!    |
//! 12 | hsah = "md5"
//!    | ^^^^ did you mean `hash`?
//! ```
//!
//! A report is shown on terminals and in logs, so what it quotes is made
//! harmless first: long lines are cut around the place, control characters
//! are replaced, and passwords never appear.

use std::fmt::Write as _;
use std::ops::Range;

use super::source::Source;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but hardly as meant.
    Warning,
    /// It can be used as meant, and could be shorter.
    Note,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where in the text; none if it came from elsewhere.
    pub span: Option<Range<usize>>,
    /// What is wrong: lower case, no period.
    pub message: String,
    /// What to do about it; printed beside the caret.
    pub hint: Option<String>,
}

/// All findings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    diagnostics: Vec<Diagnostic>,
}

/// Findings beyond this many are counted, not shown: a binary file would
/// otherwise fill the screen.
const SHOWN_MAX: usize = 100;
/// Characters of a message or a hint that are shown; both may quote the file.
const TEXT_MAX: usize = 300;
/// Characters of a source line that are shown.
const LINE_MAX: usize = 120;
/// Characters in front of the place in a line that is cut.
const LEAD: usize = 40;

impl Report {
    /// Note an error at a place.
    pub fn error(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.push(Severity::Error, Some(span.clone()), message.into(), None);
    }

    /// Note an error and what to do about it.
    pub fn error_hint(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.push(Severity::Error, Some(span.clone()), message.into(), hint);
    }

    /// Note an error that has no place in the text.
    pub fn error_nowhere(&mut self, message: impl Into<String>) {
        self.push(Severity::Error, None, message.into(), None);
    }

    /// Note a risk at a place.
    pub fn warning(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.push(Severity::Warning, Some(span.clone()), message.into(), None);
    }

    /// Note a risk and what to do about it.
    pub fn warning_hint(&mut self, span: &Range<usize>, message: impl Into<String>, hint: &str) {
        let hint = Some(hint.to_owned());
        self.push(Severity::Warning, Some(span.clone()), message.into(), hint);
    }

    /// Note what is right and could be shorter.
    pub fn note(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.push(Severity::Note, Some(span.clone()), message.into(), None);
    }

    /// How many findings there are.
    pub fn len(&self) -> usize {
        self.diagnostics.len()
    }

    /// Whether the configuration cannot be used.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// Whether further findings will not be shown, so that finding a hint for
    /// them is wasted time.
    pub fn is_full(&self) -> bool {
        self.diagnostics.len() >= SHOWN_MAX
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// How many findings are this bad.
    pub fn count(&self, severity: Severity) -> usize {
        let same = |one: &&Diagnostic| one.severity == severity;
        self.diagnostics.iter().filter(same).count()
    }

    /// All findings, in the order of their places.
    pub fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        let mut sorted: Vec<_> = self.diagnostics.iter().collect();
        sorted.sort_by_key(|one| one.span.as_ref().map(|span| (span.start, span.end)));
        sorted.into_iter()
    }

    /// The report as text for a reader.
    pub fn render(&self, source: &Source) -> String {
        let mut out = String::new();
        for one in self.diagnostics().take(SHOWN_MAX) {
            render_one(&mut out, one, source);
            out.push('\n');
        }
        if self.diagnostics.len() > SHOWN_MAX {
            let more = self.diagnostics.len() - SHOWN_MAX;
            let _ = writeln!(out, "... and {more} more\n");
        }
        out
    }

    /// One line for each finding, for logs.
    pub fn lines<'a>(&'a self, source: &'a Source) -> impl Iterator<Item = String> + 'a {
        self.diagnostics().map(move |one| match &one.span {
            Some(span) => {
                let at = source.position(span.start);
                let (name, line, column) = (&source.name, at.line, at.column);
                format!("{name}:{line}:{column}: {}", readable(&one.message))
            }
            None => readable(&one.message),
        })
    }

    fn push(
        &mut self,
        severity: Severity,
        span: Option<Range<usize>>,
        message: String,
        hint: Option<String>,
    ) {
        self.diagnostics.push(Diagnostic {
            severity,
            span,
            message,
            hint,
        });
    }
}

fn render_one(out: &mut String, one: &Diagnostic, source: &Source) {
    let word = match one.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let _ = writeln!(out, "{word}: {}", readable(&one.message));
    let Some(span) = &one.span else {
        if let Some(hint) = &one.hint {
            let _ = writeln!(out, "  {}", readable(hint));
        }
        return;
    };

    let span = source.clamp(span);
    let at = source.position(span.start);
    let (start, line) = source.line(at.line);
    let hidden = hide_password(line);
    let width = {
        let end = span
            .end
            .min(start + line.len())
            .max(span.start.min(start + line.len()));
        let from = span.start.min(start + line.len()) - start;
        line[from..end - start].chars().count().max(1)
    };
    let (shown, skipped) = cut(&hidden, at.column - 1);
    let number = at.line.to_string();
    let gutter = number.len();
    let caret = at.column - 1 - skipped;
    let width = width.min(shown.chars().count().saturating_sub(caret).max(1));

    let (name, column) = (&source.name, at.column);
    let _ = writeln!(out, "{:gutter$}--> {name}:{number}:{column}", "");
    let _ = writeln!(out, "{:gutter$} |", "");
    let _ = writeln!(out, "{number} | {shown}");
    let _ = write!(out, "{:gutter$} | {:caret$}{}", "", "", "^".repeat(width));
    match &one.hint {
        Some(hint) => {
            let _ = writeln!(out, " {}", readable(hint));
        }
        None => out.push('\n'),
    }
}

/// A line that fits, with every control character replaced by one that is
/// not, and how many characters in front of it were left out.
fn cut(line: &str, column: usize) -> (String, usize) {
    let length = line.chars().count();
    let skipped = match length > LINE_MAX {
        true => column.saturating_sub(LEAD).min(length - LINE_MAX),
        false => 0,
    };
    let shown: String = line.chars().skip(skipped).take(LINE_MAX).collect();
    (printable(&shown), skipped)
}

fn printable(text: &str) -> String {
    let safe = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(safe).collect()
}

/// A message or a hint, of bounded length.
fn readable(text: &str) -> String {
    let mut shown = printable(text);
    if let Some((end, _)) = shown.char_indices().nth(TEXT_MAX) {
        shown.truncate(end);
        shown.push_str("...");
    }
    shown
}

/// The line with the value of a `password` key starred out, however the key
/// is written. Done on the text and not on what was parsed, because lines
/// that do not parse are shown too.
fn hide_password(line: &str) -> String {
    const KEY: &str = "password";
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(KEY) {
        let (head, tail) = rest.split_at(at + KEY.len());
        out.push_str(head);
        let value = tail.trim_start_matches(['"', '\'', ' ', '\t']);
        rest = tail;
        if !value.starts_with('=') {
            continue;
        }
        let secret = value[1..].trim_start();
        out.push_str(&tail[..tail.len() - secret.len()]);
        let end = literal_end(secret);
        let stars = secret[..end].chars().map(|c| match c {
            '"' | '\'' => c,
            _ => '*',
        });
        out.extend(stars);
        rest = &secret[end..];
    }
    out.push_str(rest);
    out
}

/// Where a quoted value ends; the end of the line if it does not.
fn literal_end(text: &str) -> usize {
    let mut bytes = text.bytes().enumerate();
    let quote = match bytes.next() {
        Some((_, byte @ (b'"' | b'\''))) => byte,
        _ => return text.len(),
    };
    let triple = text.as_bytes().starts_with(&[quote; 3]);
    let mut escaped = false;
    for (at, byte) in bytes {
        if triple || (quote == b'"' && (escaped || byte == b'\\')) {
            escaped = !triple && !escaped && byte == b'\\';
            continue;
        }
        if byte == quote {
            return at + 1;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_quoted() {
        let check = |line: &str, shown: &str| assert_eq!(hide_password(line), shown);
        check("password = \"hunter2\" # x", "password = \"*******\" # x");
        check("{ password='a\"b', x = 1 }", "{ password='*\"*', x = 1 }");
        check("\"password\" = \"a\\\"b\"", "\"password\" = \"**\"*\"");
        check("password = \"open", "password = \"****");
        check("password = \"\"\"open\"", "password = \"\"\"****\"");
        check("password_file = \"/x\"", "password_file = \"/x\"");
        check("pools.a.password=12", "pools.a.password=**");
    }

    #[test]
    fn long_lines_and_control_characters_are_tamed() {
        let mut report = Report::default();
        let text = format!("servers = [{}\"x\u{1b}[31m\"]", "\"a:1\", ".repeat(1000));
        let source = Source::new("f", text);
        report.error(&(7011..7018), "bad \u{7} thing");
        let out = report.render(&source);
        assert!(out.lines().all(|line| line.chars().count() < LINE_MAX + 10));
        assert!(!out.contains('\u{1b}') && !out.contains('\u{7}'));
        assert!(out.contains("^"), "{out}");
    }

    #[test]
    fn places_behind_the_end_are_shown_at_the_end() {
        let mut report = Report::default();
        report.error(&(50..60), "unfinished");
        assert_eq!(
            report.render(&Source::new("f", "a = ")),
            "error: unfinished\n --> f:1:5\n  |\n1 | a = \n  |     ^\n\n"
        );
    }
}
