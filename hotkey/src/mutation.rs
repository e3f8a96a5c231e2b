//! Rules of the fill protocol, to be broken on purpose.
//!
//! A checker that finds nothing may be blind. So there is a build in which one
//! rule at a time can be switched off, and the checker must notice each time;
//! `docs/freshness.md` has the table. Without the feature `mutations`, which no
//! ordinary build has, [`breaks`] is a constant `false`.

#[cfg(feature = "mutations")]
use std::sync::OnceLock;

macro_rules! mutations {
    ($($variant:ident $name:literal $meaning:literal,)*) => {
        /// A rule, and what breaking it means.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutation { $(#[doc = $meaning] $variant,)* }

        impl Mutation {
            /// Every mutation.
            pub const ALL: &'static [Mutation] = &[$(Mutation::$variant,)*];

            /// What it is called.
            pub const fn name(self) -> &'static str {
                match self { $(Mutation::$variant => $name,)* }
            }
        }
    };
}

mutations! {
    TwoLinks "two-links" "Rule 1: every fill opens a connection of its own.",
    NoCachingYes "no-caching-yes" "Rule 2: the server is not told to track the key.",
    NoPoison "no-poison" "Rule 3: what a fill brings is installed whatever happened meanwhile.",
    NoNullPush "no-null-push" "Rule 3: a push that says that all keys have gone is ignored.",
    NoPttl "no-pttl" "Rule 4: an item may outlive its key on the server.",
    NoWriteInvalidation "no-write-invalidation" "Rule 5: local writes invalidate nothing.",
    NoReplyInvalidation "no-reply-invalidation" "Rule 5: local writes invalidate at send only.",
    NoQuarantine "no-quarantine" "Rule 5: a write in doubt keeps nobody from filling.",
    NoHeartbeat "no-heartbeat" "Rule 6: a silent connection counts as a good one.",
    NoEpoch "no-epoch" "Rule 6: items survive the loss of the connection.",
    NoScriptKeys "no-script-keys" "Rule 7: requests with several keys invalidate none.",
    NoChurnGuard "no-churn-guard" "Rule 8: keys that change all the time are kept.",
    NoTouch "no-touch" "Rule 9: the server is not told that a key is in use.",
    NoFrontCheck "no-front-check" "Rule 10: fronts serve without a look at the generation.",
    NoDirectReadRule "no-direct-read-rule" "A reader who was told by the server itself is not heeded.",
}

#[cfg(feature = "mutations")]
static CHOSEN: OnceLock<Mutation> = OnceLock::new();

/// Break the rule with this name from here on; false if there is none.
#[cfg(feature = "mutations")]
pub fn choose(name: &str) -> bool {
    let found = Mutation::ALL
        .iter()
        .find(|mutation| mutation.name() == name);
    found.is_some_and(|mutation| CHOSEN.set(*mutation).is_ok())
}

/// Whether this rule is broken on purpose.
#[cfg(feature = "mutations")]
#[inline]
pub fn breaks(mutation: Mutation) -> bool {
    CHOSEN.get() == Some(&mutation)
}

/// Whether this rule is broken on purpose: never.
#[cfg(not(feature = "mutations"))]
#[inline]
pub const fn breaks(mutation: Mutation) -> bool {
    let _ = mutation;
    false
}
