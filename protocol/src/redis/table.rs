//! Every command of Redis 7.0.
use super::command::Command;
/// How many commands there are.
pub const COUNT: usize = 0;
/// Every command of Redis 7.0, by name.
pub static COMMANDS: [Command; COUNT] = [];
