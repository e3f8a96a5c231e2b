//! `emberline schema`, `completions` and `man`: texts that are generated.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap_mangen::Man;

use super::terminal;
use crate::config;

pub fn schema() -> ExitCode {
    terminal::print(config::schema().as_bytes())
}

pub fn completions(shell: clap_complete::Shell, mut command: clap::Command) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "emberline", &mut text);
    terminal::print(&text)
}

/// One page for all commands: a page for each would have to be installed to be found.
pub fn man(mut command: clap::Command) -> ExitCode {
    command.build();
    match page(&command) {
        Ok(text) => terminal::print(&text),
        Err(error) => {
            terminal::complain(error);
            ExitCode::FAILURE
        }
    }
}

fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let main = Man::new(command.clone());
    main.render_title(&mut text)?;
    main.render_name_section(&mut text)?;
    writeln!(text, ".SH SYNOPSIS\n.B emberline\n[COMMAND] [OPTIONS]")?;
    writeln!(text, ".SH DESCRIPTION")?;
    for part in [command.get_about(), command.get_after_help()] {
        writeln!(text, "{}\n.PP", escaped(part))?;
    }
    writeln!(text, ".SH COMMANDS")?;
    for one in command.get_subcommands() {
        if one.get_name() != "help" {
            section(&mut text, one)?;
        }
    }
    text.write_all(REST.as_bytes())?;
    Ok(text)
}

/// A command, as a section within the page.
fn section(text: &mut Vec<u8>, command: &clap::Command) -> io::Result<()> {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    writeln!(text, ".SS \"{}\"", roff(usage))?;
    let about = command.get_long_about().or(command.get_about());
    writeln!(text, "{}", escaped(about))?;
    let mut options = Vec::new();
    Man::new(command.clone()).render_options_section(&mut options)?;
    // Its headings would begin sections of the whole page, and `--help` is everywhere.
    let options = String::from_utf8_lossy(&options);
    let lines = options.lines().filter(|line| !line.starts_with(".SH"));
    for line in lines {
        writeln!(text, "{line}")?;
    }
    Ok(())
}

fn escaped(text: Option<&clap::builder::StyledStr>) -> String {
    roff(&text.map(ToString::to_string).unwrap_or_default())
}

/// Text that roff shows as it is.
fn roff(text: &str) -> String {
    let text = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('"', "\\(dq");
    text.replace("\n\n", "\n.PP\n")
}

/// What clap does not know.
const REST: &str = r#".SH ENVIRONMENT
.TP
.B EMBERLINE_LOG
What is logged, "info" unless set: "warn", or "info,emberline::server=debug".
.TP
.B NO_COLOR
Set to anything, it keeps colours out of what is printed on a terminal.
.SH "EXIT STATUS"
.TP
.B 0
Done; for
.BR serve ,
stopped by a signal after the requests in flight were answered.
.TP
.B 1
Failed, such as an address that is in use; for
.BR healthcheck ,
not ready.
.TP
.B 2
Wrong usage, or a file that is not there.
.TP
.B 78
A configuration that cannot be used.
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_every_command_and_its_options() {
        let mut command = clap::Command::new("emberline")
            .about("A proxy")
            .after_help("It serves")
            .subcommand(
                clap::Command::new("check")
                    .about("Check a file")
                    .arg(clap::arg!(-c --config <FILE> "The file")),
            );
        command.build();
        let text = String::from_utf8(page(&command).unwrap()).unwrap();
        for part in [
            ".SS \"emberline check",
            "Check a file",
            "\\-\\-config",
            "EXIT STATUS",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("emberline\\-check(1)"), "{text}");
    }
}
