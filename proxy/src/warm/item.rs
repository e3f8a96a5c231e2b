//! A value on its way from one server to another, and what servers say of it.

use std::time::Duration;

use tokio::time::Instant;

/// A value with all that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The key as bytes.
    pub key: Vec<u8>,
    /// memcached knows the item by base64, and so must the copy be stored.
    pub base64: bool,
    /// Client flags; memcached alone.
    pub flags: u32,
    /// What a `DUMP` gave, or the bytes of an item.
    pub data: Vec<u8>,
    /// How long it had to live when it was asked for; `None`: for ever.
    pub left: Option<Duration>,
    /// When that was.
    pub asked: Instant,
}

impl Item {
    /// How long it has to live now; `None`: for ever. Zero: it has expired.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        let gone = now.saturating_duration_since(self.asked);
        self.left.map(|left| left.saturating_sub(gone))
    }

    /// Whether its time is over.
    pub fn expired(&self, now: Instant) -> bool {
        self.left(now).is_some_and(|left| left.is_zero())
    }
}

/// What a source answers about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The value.
    Item(Item),
    /// There is no such key any more.
    Gone,
    /// memcached has something there that is no value to be kept: stale, or
    /// waiting for whoever was told to set it.
    Placeholder,
    /// It cannot answer now.
    Again(String),
    /// It does not give this key away, in its words.
    Refused(String),
}

/// What a target answers about a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// It has it now.
    Stored,
    /// It had something under this key already, which stays.
    Exists,
    /// It cannot now.
    Again(String),
    /// It does not take this one, in its words.
    Refused(String),
}

/// A server's words as a person may read them: one line, no control characters.
pub fn words(reply: &[u8]) -> String {
    let line = reply.split(|&byte| byte == b'\r' || byte == b'\n').next();
    let line = line.unwrap_or_default();
    let text = String::from_utf8_lossy(line.get(..line.len().min(200)).unwrap_or_default());
    text.trim_start_matches('-').escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_on_the_way_counts() {
        let asked = Instant::now();
        let item = |left| Item {
            key: b"k".to_vec(),
            base64: false,
            flags: 0,
            data: Vec::new(),
            left,
            asked,
        };
        let later = asked + Duration::from_millis(300);
        let two = item(Some(Duration::from_secs(2)));
        assert_eq!(two.left(later), Some(Duration::from_millis(1700)));
        assert!(!two.expired(later));
        assert!(two.expired(asked + Duration::from_secs(2)));
        assert_eq!(item(None).left(later), None);
        assert!(!item(None).expired(later + Duration::from_secs(1 << 30)));
    }

    #[test]
    fn a_servers_words_are_one_harmless_line() {
        assert_eq!(words(b"-ERR no\r\n+OK\r\n"), "ERR no");
        assert_eq!(
            words(b"SERVER_ERROR \x1b[2J\r\n"),
            "SERVER_ERROR \\u{1b}[2J"
        );
        assert_eq!(words(b""), "");
    }
}
