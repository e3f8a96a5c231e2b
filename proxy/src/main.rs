//! The `emberline` binary.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    #[cfg(feature = "mutations")]
    if let Ok(name) = std::env::var("EMBERLINE_MUTATION")
        && !emberline_hotkey::mutation::choose(&name)
    {
        eprintln!("emberline: there is no mutation \"{name}\"");
        return ExitCode::from(2);
    }
    emberline::cli::run()
}
