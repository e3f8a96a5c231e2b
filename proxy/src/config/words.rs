//! Values that are one of a closed set of words, such as `hash`.

use emberline_routing::{ByteSign, Distribution, Hash};
use schemars::{Schema, SchemaGenerator};

use super::read::{Refusal, Scalar};
use super::suggest::did_you_mean;
use crate::running::{Mode, Partial, Protocol, Visibility};

/// One of a closed set of words.
pub trait Word: Copy + 'static {
    /// What it chooses: "distribution".
    const WHAT: &'static str;

    /// Every one of them, in the order of the documentation.
    fn all() -> &'static [Self];

    /// How it is written.
    fn word(self) -> &'static str;
}

impl<T: Word> Scalar for T {
    fn expected() -> String {
        let words: Vec<_> = T::all()
            .iter()
            .map(|one| format!("\"{}\"", one.word()))
            .collect();
        match words.len() {
            1..=3 => words.join(" or "),
            _ => format!("one of {}", words.join(", ")),
        }
    }

    fn from_text(text: &str) -> Result<T, Refusal> {
        let known = || T::all().iter().copied();
        known().find(|one| one.word() == text).ok_or_else(|| {
            let hint = did_you_mean(text, known().map(T::word));
            let shown: String = text.chars().take(64).collect();
            Refusal::Value {
                message: format!("unknown {} \"{shown}\"", T::WHAT),
                hint: hint.or_else(|| Some(format!("expected {}", T::expected()))),
            }
        })
    }
}

/// The schema of one of a closed set of words.
pub fn word_schema<T: Word>(_: &mut SchemaGenerator) -> Schema {
    let words: Vec<_> = T::all().iter().map(|one| one.word()).collect();
    schemars::json_schema!({ "type": "string", "enum": words })
}

/// The schema of a list of such words.
pub fn words_schema<T: Word>(generator: &mut SchemaGenerator) -> Schema {
    let word = word_schema::<T>(generator);
    schemars::json_schema!({ "type": "array", "items": word })
}

impl Word for Protocol {
    const WHAT: &'static str = "protocol";

    fn all() -> &'static [Self] {
        &[Self::Redis, Self::Memcached]
    }

    fn word(self) -> &'static str {
        self.name()
    }
}

impl Word for Partial {
    const WHAT: &'static str = "choice for partial reads";

    fn all() -> &'static [Self] {
        &[Self::Error, Self::Missing]
    }

    fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Missing => "missing",
        }
    }
}

impl Word for Mode {
    const WHAT: &'static str = "mode of the L1";

    fn all() -> &'static [Self] {
        &Self::ALL
    }

    fn word(self) -> &'static str {
        self.name()
    }
}

impl Word for Visibility {
    const WHAT: &'static str = "way to show keys";

    fn all() -> &'static [Self] {
        &[Self::Hash, Self::Plain]
    }

    fn word(self) -> &'static str {
        self.name()
    }
}

impl Word for Hash {
    const WHAT: &'static str = "hash";

    fn all() -> &'static [Self] {
        &Self::ALL
    }

    fn word(self) -> &'static str {
        self.name()
    }
}

impl Word for Distribution {
    const WHAT: &'static str = "distribution";

    fn all() -> &'static [Self] {
        &Self::ALL
    }

    fn word(self) -> &'static str {
        self.name()
    }
}

impl Word for ByteSign {
    const WHAT: &'static str = "byte sign";

    fn all() -> &'static [Self] {
        &Self::ALL
    }

    fn word(self) -> &'static str {
        self.name()
    }
}
