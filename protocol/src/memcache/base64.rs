//! Base64 as the meta protocol's `b` flag uses it for binary keys.
