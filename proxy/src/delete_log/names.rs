//! The servers of a log, by name: in a file a server is a name, in the index a
//! number that it keeps for as long as the log is open.

use std::collections::HashMap;
use std::sync::Arc;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Names {
    names: Vec<Arc<[u8]>>,
    numbers: HashMap<Arc<[u8]>, u32>,
}

impl Names {
    /// This server's number, which is the next one if it is new.
    pub fn number(&mut self, name: &[u8]) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        let name: Arc<[u8]> = name.into();
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        number
    }

    /// The name of the server with this number.
    pub fn name(&self, number: u32) -> &[u8] {
        self.names.get(number as usize).map_or(b"", |name| name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }
}

impl<'n> FromIterator<&'n str> for Names {
    fn from_iter<I: IntoIterator<Item = &'n str>>(servers: I) -> Names {
        let mut names = Names::default();
        for server in servers {
            names.number(server.as_bytes());
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_keeps_its_number() {
        let mut names: Names = ["a:1", "b:2", "a:1"].into_iter().collect();
        assert_eq!(names.len(), 2);
        assert_eq!((names.number(b"b:2"), names.number(b"c:3")), (1, 2));
        assert_eq!((names.name(2), names.name(3)), (&b"c:3"[..], &b""[..]));
    }
}
