//! The contract of the port on both engines of SQLite, on PostgreSQL, and behind the cache.

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
    ((), crate::cache::fixtures::memory())
}

mod on_file {
    agentry_store::contract_tests!(super::file);
}

mod in_memory {
    agentry_store::contract_tests!(super::memory);
}

mod postgres {
    agentry_store::contract_tests!(crate::schema::open);
}

mod cached {
    agentry_store::contract_tests!(crate::cache::fixtures::cached);
}
