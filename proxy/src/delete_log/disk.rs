//! The steps on the way to the disk, which a test can have fail: a full or
//! broken disk is not to be had on demand.

use std::io;

/// What a disk may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Bytes are added to a file.
    Append,
    /// A file is cut off.
    Cut,
    /// A new file takes the place of the old one.
    Replace,
    /// A directory is synced.
    Directory,
}

/// Whether this step may be tried: always, but for a test.
///
/// # Errors
/// What a full disk says, where a test wants it.
#[cfg(not(test))]
#[allow(clippy::unnecessary_wraps, reason = "a test has it fail")]
pub fn may(_: Step) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub use scripted::{failing, may, tried};

#[cfg(test)]
mod scripted {
    use std::cell::RefCell;

    use super::{Step, io};

    thread_local! {
        static FAIL: RefCell<Vec<Step>> = const { RefCell::new(Vec::new()) };
        static TRIED: RefCell<Vec<Step>> = const { RefCell::new(Vec::new()) };
    }

    pub fn may(step: Step) -> io::Result<()> {
        TRIED.with_borrow_mut(|tried| tried.push(step));
        match FAIL.with_borrow(|fail| fail.contains(&step)) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    /// While `during` runs, on this thread, these steps fail.
    pub fn failing<T>(steps: &[Step], during: impl FnOnce() -> T) -> T {
        FAIL.set(steps.to_vec());
        let done = during();
        FAIL.take();
        done
    }

    /// How often this thread has tried a step.
    pub fn tried(step: Step) -> usize {
        TRIED.with_borrow(|tried| tried.iter().filter(|one| **one == step).count())
    }
}
