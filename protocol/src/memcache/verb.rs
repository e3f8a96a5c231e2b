//! Every command of memcached's protocol.txt.

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

    /// Whether this administers a server rather than uses it: nothing that a
    /// proxy can pass to one of many without saying which.
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
