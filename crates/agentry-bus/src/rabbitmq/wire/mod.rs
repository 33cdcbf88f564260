//! Compact encoding of hints between processes. Version 1; a process that receives another version reads the store.

pub(super) mod reader;
pub(super) mod signals;
pub(super) mod wakes;

/// Version of both encodings: the first byte of every message.
const VERSION: u8 = 1;
