//! The classic text commands.
