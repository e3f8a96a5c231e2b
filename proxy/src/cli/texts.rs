//! `emberline schema`, `completions` and `man`: texts that are generated.

use std::process::ExitCode;

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

pub fn man(command: clap::Command) -> ExitCode {
    let mut text = Vec::new();
    match clap_mangen::Man::new(command).render(&mut text) {
        Ok(()) => terminal::print(&text),
        Err(error) => {
            terminal::complain(error);
            ExitCode::FAILURE
        }
    }
}
