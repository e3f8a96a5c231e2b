//! `emberline schema`, `completions` and `man`: texts that are generated.

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::config;

pub fn schema() -> ExitCode {
    print(config::schema().as_bytes())
}

pub fn completions(shell: clap_complete::Shell, mut command: clap::Command) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "emberline", &mut text);
    print(&text)
}

pub fn man(command: clap::Command) -> ExitCode {
    let mut text = Vec::new();
    match clap_mangen::Man::new(command).render(&mut text) {
        Ok(()) => print(&text),
        Err(error) => failed(&error),
    }
}

/// A reader that stops reading, such as `head`, is no failure.
fn print(text: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &io::Error) -> ExitCode {
    eprintln!("emberline: cannot write: {error}");
    ExitCode::FAILURE
}
