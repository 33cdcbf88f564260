//! The contract of the port on both engines of the SQLite backend.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use agentry_store::StateStore;
use agentry_store::contract::build::AgeHeartbeats;
use agentry_store::sqlite::{SqliteOptions, SqliteStore};

struct Folder {
    _dir: tempfile::TempDir,
}

impl AgeHeartbeats for Folder {}

fn file() -> (Folder, Arc<dyn StateStore>) {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path(), SqliteOptions::default()).unwrap();
    (Folder { _dir: dir }, Arc::new(store))
}

fn memory() -> ((), Arc<dyn StateStore>) {
    ((), Arc::new(SqliteStore::in_memory(SqliteOptions::default()).unwrap()))
}

mod on_file {
    agentry_store::contract_tests!(super::file);
}

mod in_memory {
    agentry_store::contract_tests!(super::memory);
}
