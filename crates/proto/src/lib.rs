//! The native protocol's schema as Rust types, and the constants of its TCP framing.
