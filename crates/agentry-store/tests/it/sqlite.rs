//! Guarantees of this backend only: the file, its lock, group commit, a full disk.

use std::path::Path;
use std::sync::Arc;

use agentry_core::id::WorkerId;
use agentry_core::task::TaskStatus;
use agentry_store::contract::advance::a_broken_write_fails_alone;
use agentry_store::contract::build::{T0, accept, at, claim, finish, heartbeat, ledger_row, running, task};
use agentry_store::contract::queue::a_bound_of_two_tasks_holds;
use agentry_store::sqlite::{DATABASE_FILE, LOCK_FILE, OpenError, SqliteOptions, SqliteStore};
use agentry_store::{Advance, StateStore, Step, StoreError};

fn open(folder: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(folder, SqliteOptions::default())
}

fn shared(folder: &Path) -> Arc<dyn StateStore> {
    Arc::new(open(folder).unwrap())
}

#[tokio::test]
async fn accepted_tasks_survive_a_reopen() {
    let folder = tempfile::tempdir().unwrap();
    let store = shared(folder.path());
    let queued = accept(&store, task(T0)).await;
    let lease = running(&store, WorkerId::generate()).await.lease;
    let counts = store.counts().await.unwrap();
    drop(store);
    let store = shared(folder.path());
    assert_eq!(store.counts().await.unwrap(), counts);
    assert_eq!(store.task(queued).await.unwrap().unwrap().status, TaskStatus::Queued);
    store.advance(finish(lease, at(1)).into()).await.unwrap();
}

#[tokio::test]
async fn a_reopen_proves_earlier_workers_dead_and_their_last_heartbeat_ends_the_running_time() {
    for now in [at(1), at(3_600)] {
        let folder = tempfile::tempdir().unwrap();
        let store = shared(folder.path());
        let dead = WorkerId::generate();
        let lost = running(&store, dead).await.lease.task;
        heartbeat(&store, dead, at(1)).await;
        drop(store);
        let store = shared(folder.path());
        let recovered = store.recover(WorkerId::generate(), now, 10).await.unwrap();
        assert_eq!(recovered.iter().map(|one| one.task).collect::<Vec<_>>(), [lost]);
        let again = claim(&store, WorkerId::generate(), lost, now).await.unwrap();
        assert_eq!(again.used_us, 1_000_000, "the time while nobody ran it is not its own");
        assert!(store.workers(now).await.unwrap().is_empty());
    }
}

#[test]
fn a_second_store_on_the_folder_is_refused_with_the_first_ones_pid() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).unwrap();
    let error = open(folder.path()).err().unwrap().to_string();
    assert!(error.contains(&format!("another agentry (pid {}) uses the data folder", std::process::id())), "{error}");
    drop(first);
    open(folder.path()).unwrap();
}

#[test]
fn a_read_only_folder_is_reported() {
    // Nobody, not even root, may create files there.
    let error = open(Path::new("/sys/kernel")).err().unwrap();
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error:?}");
    assert!(error.to_string().contains("choose another one with --data"));
}

#[test]
fn wrong_paths_damaged_and_newer_files_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "x").unwrap();
    assert!(matches!(open(&plain).err().unwrap(), OpenError::Folder { .. }));

    let damaged = folder.path().join("damaged");
    std::fs::create_dir(&damaged).unwrap();
    std::fs::write(damaged.join(DATABASE_FILE), "no database ".repeat(1_000)).unwrap();
    assert!(matches!(open(&damaged).err().unwrap(), OpenError::Corrupt { .. }));

    let newer = folder.path().join("newer");
    drop(open(&newer).unwrap());
    let conn = rusqlite::Connection::open(newer.join(DATABASE_FILE)).unwrap();
    conn.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(conn);
    assert!(matches!(open(&newer).err().unwrap(), OpenError::NewerSchema { found: 99, .. }));
}

/// Only the owner may read prompts, answers and hashes of keys, also in a folder of an older version.
#[cfg(unix)]
#[tokio::test]
async fn other_users_are_kept_out_of_the_folder() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let modes = || {
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let files = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files.map(|path| (path.file_name().unwrap().to_owned(), mode(&path))).collect();
        files.sort();
        (mode(&dir), files)
    };
    for loose in [None, Some((0o777, 0o666)), Some((0o755, 0o644))] {
        if let Some((of_folder, of_files)) = loose {
            let set = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
            for entry in std::fs::read_dir(&dir).unwrap() {
                set(&entry.unwrap().path(), of_files);
            }
            set(&dir, of_folder);
        }
        let store = shared(&dir);
        accept(&store, task(T0)).await;
        let (of_folder, files) = modes();
        assert_eq!(of_folder, 0o700, "{loose:?}");
        assert!(files.len() >= 4 && files.iter().all(|(_, mode)| *mode == 0o600), "{loose:?}: {files:?}");
        // State after a kill.
        std::mem::forget(store);
        std::fs::remove_file(dir.join(LOCK_FILE)).unwrap();
    }
}

#[tokio::test]
async fn the_queue_has_a_bound() {
    let store = SqliteStore::in_memory(SqliteOptions { max_queued: 2 }).unwrap();
    a_bound_of_two_tasks_holds(Arc::new(store)).await;
}

#[tokio::test]
async fn a_failing_command_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = shared(folder.path());
    // From here on no row of an empty model can be inserted into the ledger.
    let conn = rusqlite::Connection::open(folder.path().join(DATABASE_FILE)).unwrap();
    conn.execute_batch(
        "CREATE TRIGGER poison BEFORE INSERT ON names WHEN NEW.name = '' BEGIN SELECT RAISE(ABORT, 'poison'); END",
    )
    .unwrap();
    a_broken_write_fails_alone(store, |end| end.ledger.push(ledger_row(end.lease.task, ""))).await;
}

#[tokio::test]
async fn a_full_disk_refuses_and_work_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Arc::new(open(folder.path()).unwrap());
    let store: Arc<dyn StateStore> = sqlite.clone();
    let worker = WorkerId::generate();
    let kept = running(&store, worker).await.lease;
    sqlite.limit_pages(Some(1)).await.unwrap();
    let mut accepted = Vec::new();
    let refused = loop {
        let mut large = task(T0);
        large.input = "x".repeat(10_000).into();
        let id = large.id;
        match store.accept(vec![Arc::new(large)]).await {
            Ok(_) => accepted.push(id),
            Err(error) => break error,
        }
        assert!(accepted.len() < 1_000, "the bound holds");
    };
    assert!(matches!(&refused, StoreError::Unavailable(message) if message.contains("no space")), "{refused:?}");
    assert!(refused.is_transient());
    assert_eq!(store.counts().await.unwrap().queued, accepted.len() as u64);
    sqlite.limit_pages(None).await.unwrap();
    let after = accept(&store, task(T0)).await;
    assert!(claim(&store, worker, after, T0).await.is_some());
    store.advance(Advance::new(kept, at(1), Step::Release).into()).await.unwrap();
}
