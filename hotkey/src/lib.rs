//! hotkey
