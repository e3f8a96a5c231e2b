//! The listening sockets, and the thread that accepts from them.
//!
//! A reload opens further ones before anything else changes, so that an address
//! that cannot be used refuses the whole configuration; and closes others when
//! nobody routes for them any more. A listener that takes over the address of
//! one that goes takes over its socket, with everybody who waits there.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::Hub;
use super::acceptor::{self, Bound, SocketFile};
use crate::running::{Bind, Running};

/// See the module's description.
#[derive(Debug)]
pub struct Doors {
    open: Mutex<BTreeMap<usize, Door>>,
    words: Mutex<Option<mpsc::UnboundedSender<Word>>>,
}

/// One listening socket, by the number of its listener.
#[derive(Debug)]
struct Door {
    bound: Bound,
    file: Option<SocketFile>,
}

/// What the acceptor's thread is told.
enum Word {
    Accept(usize, Bound),
    Close(usize),
}

/// Sockets that a configuration needs and that were not open.
#[derive(Debug, Default)]
pub struct Opened(Vec<(usize, Door)>);

impl Doors {
    /// None is open.
    pub fn new() -> Doors {
        Doors {
            open: Mutex::default(),
            words: Mutex::default(),
        }
    }

    /// Bind what `new` needs beyond what is open.
    ///
    /// # Errors
    /// When an address cannot be used; nothing was opened then.
    pub fn bind(&self, new: &Running) -> io::Result<Opened> {
        let mut opened = Opened::default();
        match self.bind_into(new, &mut opened) {
            Ok(()) => Ok(opened),
            Err(error) => {
                let files = opened.0.into_iter().filter_map(|(_, door)| door.file);
                files.for_each(|file| file.remove());
                Err(error)
            }
        }
    }

    fn bind_into(&self, new: &Running, opened: &mut Opened) -> io::Result<()> {
        let open = self.open();
        for (at, listener) in new.listeners.numbered() {
            let stays = |at: &usize| {
                let before = open.get(at).map(|door| &door.bound);
                before.is_some_and(|bound| bound.bind() == &listener.bind)
            };
            if stays(&at) {
                continue;
            }
            let heir = open
                .values()
                .find(|door| door.bound.bind() == &listener.bind);
            let bound = match heir {
                Some(door) => door.bound.another()?,
                None => Bound::new(listener)?,
            };
            let file = match heir {
                // It belongs to who has it until that goes.
                Some(_) => None,
                None => bound
                    .address()
                    .ok()
                    .and_then(|address| SocketFile::of(&address)),
            };
            opened.0.push((at, Door { bound, file }));
        }
        Ok(())
    }

    /// Accept from what was opened, and no longer from what `new` does not have.
    pub fn follow(&self, new: &Running, opened: Opened) {
        let mut open = self.open();
        let gone = |at: &usize| new.listeners.is_gone(*at);
        let closed: Vec<usize> = open.keys().copied().filter(gone).collect();
        let closed: Vec<(usize, Door)> = closed
            .into_iter()
            .filter_map(|at| Some((at, open.remove(&at)?)))
            .collect();
        for (at, door) in opened.0 {
            // The parent's descriptor may be all that is left; then the new
            // listener hears nothing, and a restart is due.
            match door.bound.another() {
                Ok(bound) => self.say(Word::Accept(at, bound)),
                Err(error) => tracing::error!(%error, "a listener cannot be accepted from"),
            }
            open.insert(at, door);
        }
        for (at, door) in closed {
            self.say(Word::Close(at));
            let mut others = open.values_mut();
            match others.find(|other| other.bound.bind() == door.bound.bind()) {
                Some(heir) => heir.file = door.file,
                None => {
                    if let Some(file) = door.file {
                        file.remove();
                    }
                }
            }
        }
    }

    /// The addresses as bound, by the numbers of their listeners.
    pub fn addresses(&self) -> io::Result<Vec<(usize, Bind)>> {
        let open = self.open();
        let addresses = open.iter();
        addresses
            .map(|(at, door)| Ok((*at, door.bound.address()?)))
            .collect()
    }

    /// Accept from nothing any more; what is open is closed by the thread's end.
    pub fn close(&self) {
        self.words().take();
    }

    /// Remove the files of Unix sockets.
    pub fn remove_files(&self) {
        for door in std::mem::take(&mut *self.open()).into_values() {
            if let Some(file) = door.file {
                file.remove();
            }
        }
    }

    /// Start the thread that accepts.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, hub: Arc<Hub>) -> io::Result<JoinHandle<()>> {
        let (words, mut said) = mpsc::unbounded_channel();
        *self.words() = Some(words);
        super::spawn_local("acceptor".to_owned(), move || async move {
            let mut tasks: HashMap<usize, AbortHandle> = HashMap::new();
            while let Some(word) = said.recv().await {
                match word {
                    Word::Accept(at, bound) => {
                        let accepting = acceptor::accept(Arc::clone(&hub), at, bound);
                        let task = tokio::task::spawn_local(accepting);
                        tasks.insert(at, task.abort_handle());
                    }
                    Word::Close(at) => {
                        if let Some(task) = tasks.remove(&at) {
                            task.abort();
                        }
                    }
                }
            }
        })
    }

    fn say(&self, word: Word) {
        if let Some(words) = &*self.words() {
            // The thread ends after this does.
            let _ = words.send(word);
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<usize, Door>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn words(&self) -> MutexGuard<'_, Option<mpsc::UnboundedSender<Word>>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
