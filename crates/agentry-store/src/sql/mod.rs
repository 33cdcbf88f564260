//! Code that the SQLite and PostgreSQL stores share.

pub(crate) mod columns;
pub(crate) mod dead_letter;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod limits;
