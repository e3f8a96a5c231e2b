//! What the operating system knows of this process.
