//! The two-letter meta commands.
