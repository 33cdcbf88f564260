//! Code that the SQLite and PostgreSQL stores share.

pub(crate) mod arrival;
pub(crate) mod columns;
pub(crate) mod decode;
pub(crate) mod letters;
pub(crate) mod limits;
pub(crate) mod write;
