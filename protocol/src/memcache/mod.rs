//! The memcached protocols: text and meta.
