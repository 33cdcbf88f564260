//! The compact form of hints between processes. Version 1; a process that gets another version looks into the store.

pub(super) mod reader;
pub(super) mod signals;
pub(super) mod wakes;

/// The version of both forms: the first byte of every message.
const VERSION: u8 = 1;
