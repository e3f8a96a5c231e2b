//! Processes, ports and directories that end with the value that holds them.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::interrupt;

/// A child process; dropping it kills it by its process id and reaps it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Start a program; what it prints goes to a file in `scratch`.
    pub fn start(name: &str, command: &mut Command, scratch: &Scratch) -> io::Result<Process> {
        let log = scratch.file(&format!("{name}.log"));
        let output = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|error| {
                io::Error::new(error.kind(), format!("cannot start {name}: {error}"))
            })?;
        Ok(Process {
            child,
            name: name.to_owned(),
            log,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Send it a signal by its name, such as `STOP`.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let flag = format!("-{name}");
        Command::new("kill")
            .args([&flag, &self.pid().to_string()])
            .status()
            .map(|_| ())
    }

    /// An error with the end of its output, if the process has ended.
    pub fn check_alive(&mut self) -> io::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(io::Error::other(format!(
                "{} ended with {status}: {}",
                self.name,
                self.output_end()
            ))),
        }
    }

    /// Ask it to end with a signal, wait for it, and return what it printed.
    pub fn interrupt(mut self, patience: Duration) -> io::Result<String> {
        let pid = self.pid().to_string();
        Command::new("kill").args(["-INT", &pid]).status()?;
        self.wait(patience)?;
        fs::read_to_string(&self.log)
    }

    fn wait(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                let text = format!("{} did not end in time", self.name);
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn output_end(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A temporary directory, removed with everything in it.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new, empty directory.
    pub fn new(label: &str) -> io::Result<Scratch> {
        let nanos = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.subsec_nanos());
        let name = format!("emberline-{label}-{}-{nanos}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path)?;
        Ok(Scratch(path))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path in the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A loopback port that was free a moment ago.
///
/// Another process may take it before it is used; the peer then fails to
/// start, which is reported, and the run is repeated.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Try until it works, the process ends, or the time is over.
pub fn wait_until<T>(
    process: &mut Process,
    patience: Duration,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        let error = match attempt() {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        interrupt::check()?;
        process.check_alive()?;
        if Instant::now() > deadline {
            let text = format!("{} does not answer: {error}", process.name);
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        thread::sleep(Duration::from_micros(200));
    }
}

/// Where a program is: the first of the directories of `PATH` (and the usual
/// system directories, which a user's `PATH` may lack) that has it.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = [
        "/usr/local/sbin",
        "/usr/sbin",
        "/sbin",
        "/usr/local/bin",
        "/usr/bin",
    ]
    .map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(usual);
    places.find_map(|place| Some(place.join(program)).filter(|file| file.is_file()))
}

/// The first line a program prints when asked for its version.
pub fn version(program: &Path, flag: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output() else {
        return "unknown".to_owned();
    };
    let texts =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    let line = texts
        .iter()
        .flat_map(|text| text.lines())
        .find(|line| !line.trim().is_empty());
    line.unwrap_or("unknown").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_process_and_directory_are_gone() {
        let scratch = Scratch::new("test").unwrap();
        let path = scratch.path().to_owned();
        let process = Process::start("sleep", Command::new("sleep").arg("60"), &scratch).unwrap();
        let proc = PathBuf::from(format!("/proc/{}", process.pid()));
        assert!(proc.exists() && path.exists());
        drop(process);
        drop(scratch);
        assert!(!proc.exists() && !path.exists());
    }

    #[test]
    fn a_process_that_ends_early_says_why() {
        let scratch = Scratch::new("test").unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such option; exit 3"]);
        let mut process = Process::start("sh", &mut command, &scratch).unwrap();
        let failure = wait_until(&mut process, Duration::from_secs(5), || {
            Err::<(), _>(io::Error::other("refused"))
        });
        assert!(failure.unwrap_err().to_string().contains("no such option"));
    }
}
