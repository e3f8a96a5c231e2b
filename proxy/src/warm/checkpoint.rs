//! What was copied, in a file, so that a run that was killed can go on.
//!
//! The file is replaced as a whole: written beside itself, synced, renamed, and
//! the directory synced. Whoever reads it sees an old state or a new one.
//!
//! ```json
//! { "emberline_warm": 1,
//!   "job": { "from": "...", "to": "...", "options": "..." },
//!   "targets": { "127.0.0.1:6380": "77a0" },
//!   "servers": { "127.0.0.1:6379": { "instance": "5e1f", "done": false, "cursor": 1792, "slices": 0 } } }
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// The version of the file's format.
const VERSION: u64 = 1;

/// How far one source server is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Which life of the server this is about; a cursor means nothing in
    /// another. Empty: not known.
    pub instance: String,
    /// All of its keys are handled.
    pub done: bool,
    /// Redis: where `SCAN` goes on. memcached: slices that are done.
    pub cursor: u64,
    /// memcached: slices in all; 0: not known.
    pub slices: u64,
}

/// What is being copied, in words that are the same as long as the keys and
/// their places are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The pool that is read.
    pub from: String,
    /// The pool that is filled.
    pub to: String,
    /// Which keys, and how.
    pub options: String,
}

/// All that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// How far each source server is, by name.
    pub servers: BTreeMap<String, Progress>,
    /// Which life of each target server was filled, by name.
    pub targets: BTreeMap<String, String>,
}

/// Read a checkpoint; `None` if there is no file.
///
/// # Errors
/// Why it cannot be used, for a person.
pub fn load(path: &Path, identity: &Identity) -> Result<Option<State>, String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    if value["emberline_warm"].as_u64() != Some(VERSION) {
        return Err(format!("{} is not a checkpoint", path.display()));
    }
    let job = &value["job"];
    let parts = [
        ("from", "source pool", &identity.from),
        ("to", "target pool", &identity.to),
        ("options", "choice of keys", &identity.options),
    ];
    for (name, what, now) in parts {
        let then = job[name].as_str().unwrap_or_default();
        if then != now {
            return Err(format!(
                "{} belongs to another {what}\n  then: {then}\n  now:  {now}\n\
                 remove it to begin anew",
                path.display()
            ));
        }
    }
    let members = |name: &str| value[name].as_object().into_iter().flatten();
    let life = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    Ok(Some(State {
        servers: members("servers")
            .map(|(name, value)| (name.clone(), progress(value)))
            .collect(),
        targets: members("targets").filter_map(life).collect(),
    }))
}

fn progress(value: &Value) -> Progress {
    Progress {
        instance: value["instance"].as_str().unwrap_or_default().to_owned(),
        done: value["done"].as_bool().unwrap_or(false),
        cursor: value["cursor"].as_u64().unwrap_or(0),
        slices: value["slices"].as_u64().unwrap_or(0),
    }
}

/// The text of a checkpoint.
pub fn text(identity: &Identity, state: &State) -> String {
    let servers: Map<String, Value> = state
        .servers
        .iter()
        .map(|(name, progress)| {
            let value = json!({
                "instance": progress.instance,
                "done": progress.done,
                "cursor": progress.cursor,
                "slices": progress.slices,
            });
            (name.clone(), value)
        })
        .collect();
    let value = json!({
        "emberline_warm": VERSION,
        "job": { "from": identity.from, "to": identity.to, "options": identity.options },
        "targets": state.targets,
        "servers": servers,
    });
    format!("{value:#}\n")
}

/// Replace the file. Blocks until the disk has it.
///
/// # Errors
/// Whatever the disk says; then the old file is still there.
pub fn save(path: &Path, text: &str) -> io::Result<()> {
    let beside = beside(path);
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    drop(file);
    fs::rename(&beside, path)?;
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(from: &str) -> Identity {
        Identity {
            from: from.to_owned(),
            to: "new".to_owned(),
            options: "all keys".to_owned(),
        }
    }

    #[test]
    fn what_was_saved_is_loaded_and_nothing_else() {
        let directory = std::env::temp_dir().join(format!("emberline-ck-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("state.json");
        assert_eq!(load(&path, &identity("old")), Ok(None));

        let far = Progress {
            instance: "5e1f".to_owned(),
            done: false,
            // Beyond what a double holds.
            cursor: u64::MAX - 1,
            slices: 4,
        };
        let state = State {
            servers: BTreeMap::from([
                ("a:1".to_owned(), far),
                ("b:1".to_owned(), Progress::default()),
            ]),
            targets: BTreeMap::from([("c:1".to_owned(), "77a0".to_owned())]),
        };
        save(&path, &text(&identity("old"), &state)).unwrap();
        assert_eq!(load(&path, &identity("old")), Ok(Some(state)));
        assert!(!beside(&path).exists());

        let error = load(&path, &identity("other")).unwrap_err();
        assert!(error.contains("belongs to another source pool"), "{error}");
        for garbage in ["", "{", "[]", "{\"emberline_warm\": 2}"] {
            fs::write(&path, garbage).unwrap();
            let error = load(&path, &identity("old")).unwrap_err();
            assert!(error.ends_with("is not a checkpoint"), "{error}");
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
