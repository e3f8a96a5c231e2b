//! Every command of memcached's protocol.txt.
//!
//! A verb is what a command *does*; both encodings name their own, because
//! metrics and error texts speak of commands as users write them.

use crate::Kind;

/// How a request is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The classic text commands: `get`, `set`, ...
    Text,
    /// The two-letter meta commands: `mg`, `ms`, ...
    Meta,
}

macro_rules! verbs {
    ($($variant:ident $name:literal $dialect:ident $kind:ident,)*) => {
        /// A command of memcached.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Verb { $(#[doc = concat!("`", $name, "`")] $variant,)* }

        impl Verb {
            /// Every verb, in the order of [`Verb::id`].
            pub const ALL: &'static [Verb] = &[$(Verb::$variant,)*];
            /// How many verbs there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The command as it is written on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Verb::$variant => $name,)* }
            }

            /// The encoding that the command belongs to.
            pub const fn dialect(self) -> Dialect {
                match self { $(Verb::$variant => Dialect::$dialect,)* }
            }

            /// What the command does to its key.
            pub const fn kind(self) -> Kind {
                match self { $(Verb::$variant => Kind::$kind,)* }
            }
        }
    };
}

verbs! {
    Get "get" Text Read,
    Gets "gets" Text Read,
    Gat "gat" Text Touch,
    Gats "gats" Text Touch,
    Set "set" Text Write,
    Add "add" Text Write,
    Replace "replace" Text Write,
    Append "append" Text Write,
    Prepend "prepend" Text Write,
    Cas "cas" Text Write,
    Delete "delete" Text Delete,
    Incr "incr" Text Counter,
    Decr "decr" Text Counter,
    Touch "touch" Text Touch,
    FlushAll "flush_all" Text Other,
    Stats "stats" Text Other,
    Version "version" Text Other,
    Verbosity "verbosity" Text Other,
    Quit "quit" Text Other,
    Shutdown "shutdown" Text Other,
    CacheMemlimit "cache_memlimit" Text Other,
    Slabs "slabs" Text Other,
    Lru "lru" Text Other,
    LruCrawler "lru_crawler" Text Other,
    Watch "watch" Text Other,
    RefreshCerts "refresh_certs" Text Other,
    Misbehave "misbehave" Text Other,
    Extstore "extstore" Text Other,
    MetaGet "mg" Meta Read,
    MetaSet "ms" Meta Write,
    MetaDelete "md" Meta Delete,
    MetaArithmetic "ma" Meta Counter,
    MetaNoop "mn" Meta Other,
    MetaDebug "me" Meta Other,
}

impl Verb {
    /// The verb that a line begins with.
    ///
    /// `bget` is an ancient spelling of `get` that memcached still takes.
    pub fn lookup(word: &[u8]) -> Option<Verb> {
        Some(match word {
            b"get" | b"bget" => Verb::Get,
            b"gets" => Verb::Gets,
            b"gat" => Verb::Gat,
            b"gats" => Verb::Gats,
            b"set" => Verb::Set,
            b"add" => Verb::Add,
            b"mg" => Verb::MetaGet,
            b"ms" => Verb::MetaSet,
            b"md" => Verb::MetaDelete,
            b"ma" => Verb::MetaArithmetic,
            b"mn" => Verb::MetaNoop,
            b"me" => Verb::MetaDebug,
            _ => {
                return Verb::ALL
                    .iter()
                    .copied()
                    .find(|v| v.name().as_bytes() == word);
            }
        })
    }

    /// A dense index, for metrics.
    pub const fn id(self) -> u16 {
        self as u16
    }

    /// Whether a data block follows the command line.
    pub const fn has_body(self) -> bool {
        matches!(
            self,
            Verb::Set
                | Verb::Add
                | Verb::Replace
                | Verb::Append
                | Verb::Prepend
                | Verb::Cas
                | Verb::MetaSet
        )
    }

    /// Whether the command may name several keys: `get gets gat gats`.
    pub const fn is_multiget(self) -> bool {
        matches!(self, Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats)
    }

    /// Whether the command is meant for every server there is: nobody who says
    /// `flush_all` or `cache_memlimit` to a proxy means one server of several.
    pub const fn is_for_all(self) -> bool {
        matches!(self, Verb::FlushAll | Verb::CacheMemlimit)
    }

    /// Whether this administers a server rather than uses it. Unless it
    /// [is for all](Self::is_for_all), it is nothing that a proxy can pass to
    /// one of many without saying which.
    pub const fn is_administrative(self) -> bool {
        matches!(
            self,
            Verb::Shutdown
                | Verb::CacheMemlimit
                | Verb::Slabs
                | Verb::Lru
                | Verb::LruCrawler
                | Verb::Watch
                | Verb::RefreshCerts
                | Verb::Misbehave
                | Verb::Extstore
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_found_by_its_name_and_id() {
        for (i, &verb) in Verb::ALL.iter().enumerate() {
            assert_eq!(Verb::lookup(verb.name().as_bytes()), Some(verb));
            assert_eq!(usize::from(verb.id()), i);
        }
        assert_eq!(Verb::lookup(b"GET"), None);
        assert_eq!(Verb::lookup(b""), None);
    }
}
