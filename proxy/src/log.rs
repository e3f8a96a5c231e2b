//! Logging: text on a terminal, JSON otherwise, always to standard error.
