//! Ctrl-C as a flag, so that every `Drop` guard still runs.
//!
//! The default action of SIGINT ends the process at once and leaves the
//! servers that it started behind. Here a thread waits for the signal and sets
//! a flag; the loops look at it and return an error through the usual path.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Start to listen for SIGINT and SIGTERM. A second signal ends the process at once.
pub fn install() {
    thread::spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
        else {
            return;
        };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let Ok(mut terminate) = signal(SignalKind::terminate()) else {
                return;
            };
            for turn in 0..2 {
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = terminate.recv() => {}
                }
                INTERRUPTED.store(true, Ordering::Relaxed);
                if turn == 1 {
                    std::process::exit(130);
                }
            }
        });
    });
}

/// Whether a signal came.
pub fn requested() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// An error when a signal came, for `?` between two steps.
pub fn check() -> io::Result<()> {
    if requested() {
        return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
    }
    Ok(())
}
