//! Migration of a folder's state to PostgreSQL, seen through the port of both stores.

mod compare;
mod fill;
mod refusals;

use std::path::Path;
use std::sync::Arc;

use agentry_core::id::WorkerId;
use agentry_core::journal::{JournalBody, JournalEntry, Scope};
use agentry_core::session::SessionId;
use agentry_core::task::{Outcome, TaskStatus};
use agentry_store::contract::build::{accept, agent, at, claim, heartbeat, keyed, message, task, worker};
use agentry_store::migrate::{MigrateError, Migration, MigrationPhase, Report, count, migrate};
use agentry_store::sqlite::{DATABASE_FILE, SqliteOptions, SqliteStore};
use agentry_store::{
    AcceptError, Acceptance, Advance, ClaimRequest, EventAcceptance, FiringResult, IncomingEvent, ResolveResult,
    SessionClaim, StateStore, Step, UsageGroup,
};

use tempfile::TempDir;

use crate::schema::{Schema, client};
use fill::{Filled, KEY, fill, firing};

impl Schema {
    /// Runs SQL in the schema.
    async fn run(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.unwrap();
    }

    /// Returns whether the schema holds no task, event or anything else from a folder.
    async fn is_empty(&self) -> bool {
        let store = self.store().await;
        store.tasks(&Default::default(), None, 1).await.unwrap().items.is_empty()
            && store.recent_events(1).await.unwrap().is_empty()
            && store.sessions(None, None, 1).await.unwrap().items.is_empty()
            && store.schedules(None, 1).await.unwrap().items.is_empty()
            && store.counts().await.unwrap() == Default::default()
    }

    /// Migrates a folder into the schema.
    async fn migrate_from(&self, folder: &Path) -> Result<Report, MigrateError> {
        migrate(&Migration { from: folder.to_owned(), to: self.options() }, |_| {}).await
    }
}

/// Opens the store of a folder.
fn sqlite(folder: &Path) -> Arc<dyn StateStore> {
    Arc::new(SqliteStore::open(folder, SqliteOptions::default()).unwrap())
}

/// Returns a folder with some of everything.
async fn filled() -> (TempDir, Filled) {
    let folder = tempfile::tempdir().unwrap();
    let filled = fill(&sqlite(folder.path())).await;
    (folder, filled)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_and_the_folder_stays_as_it_was() {
    let ((folder, filled), schema) = (filled().await, Schema::new());
    let file = folder.path().join(DATABASE_FILE);
    let before = std::fs::read(&file).unwrap();
    let mut said = Vec::new();
    let to = schema.options();
    let report = migrate(&Migration { from: folder.path().to_owned(), to }, |now| said.push(now)).await.unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), before, "the folder is only read");
    assert!(report.tables.iter().all(|table| table.verified && table.rows > 0), "{report:?}");
    for status in TaskStatus::ALL {
        let filter = agentry_store::TaskFilter { status: Some(status), ..Default::default() };
        let found = schema.store().await.tasks(&filter, None, 1).await.unwrap().items;
        assert!(!found.is_empty(), "there is something {status} to compare");
    }
    let finished = |phase| said.iter().filter(|now| now.phase == phase && now.rows == now.of).count();
    assert!(
        finished(MigrationPhase::Copying) >= report.tables.len()
            && finished(MigrationPhase::Checking) >= report.tables.len()
    );

    // A dry run reports the same of the folder.
    let dry = count(folder.path().to_owned(), None, |_| {}).await.unwrap();
    let sums = |report: &agentry_store::migrate::Report| {
        report.tables.iter().map(|table| (table.table, table.rows, table.checksum.clone())).collect::<Vec<_>>()
    };
    assert_eq!((sums(&dry), dry.counts, dry.rows()), (sums(&report), report.counts, report.rows()));

    let (one, two) = (sqlite(folder.path()), schema.store().await);
    compare::same_state(&one, &two, &filled).await;
    assert_eq!(two.counts().await.unwrap(), report.counts);
    assert!(two.workers(at(200)).await.unwrap().is_empty(), "workers of the folder are not workers here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_goes_on_in_the_same_order() {
    let ((folder, filled), schema) = (filled().await, Schema::new());
    schema.migrate_from(folder.path()).await.unwrap();
    let (one, two) = (sqlite(folder.path()), schema.store().await);

    // Running tasks belong to a dead worker: queued again with their journal, no call is paid twice.
    let before = two.journal(filled.running.task, 0, 100).await.unwrap();
    let ids = |recovered: Vec<agentry_core::wake::Wake>| {
        recovered.into_iter().map(|one| one.task).collect::<std::collections::BTreeSet<_>>()
    };
    let expected = ids(one.recover(WorkerId::generate(), at(200), 100).await.unwrap());
    assert_eq!(expected.len(), 4, "one of them was claimed by a worker that never registered");
    assert_eq!(ids(two.recover(WorkerId::generate(), at(200), 100).await.unwrap()), expected);
    let after = two.journal(filled.running.task, 0, 100).await.unwrap();
    assert_eq!(after[..before.len()], before[..]);
    assert_eq!(
        after[before.len()..].iter().map(|entry| &entry.body).collect::<Vec<_>>(),
        [&JournalBody::Recovered { worker: filled.running.worker }]
    );
    compare::same_state(&one, &two, &filled).await;

    let living = worker(&one, at(200)).await;
    heartbeat(&two, living, at(200)).await;
    compare::same_claims(&one, &two, living, at(200)).await;
    compare::same_state(&one, &two, &filled).await;
    // Recovered at once, it has used what it had used at its owner's last heartbeat (35 s; claimed at 2 s).
    let lease = two.task(filled.running.task).await.unwrap().unwrap();
    assert_eq!((lease.status, lease.owner), (TaskStatus::Running, Some(living)));
    let lease = agentry_store::Lease { task: lease.task.id, epoch: lease.epoch, worker: living };
    two.advance(Advance::new(lease, at(200), Step::Release).into()).await.unwrap();
    let again = claim(&two, living, filled.running.task, at(200)).await.unwrap();
    assert_eq!((again.used_us, again.recoveries, again.attempt), (34_000_000, 2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_decided_stays_decided() {
    let ((folder, filled), schema) = (filled().await, Schema::new());
    schema.migrate_from(folder.path()).await.unwrap();
    let store = schema.store().await;

    let with = |print| keyed(task(at(50)), KEY.0, print);
    let answers = store.accept(vec![with(KEY.1)]).await.unwrap();
    assert_eq!(answers, [Ok(Acceptance::Duplicate(filled.keyed))]);
    let answers = store.accept(vec![with(1)]).await.unwrap();
    assert_eq!(answers, [Err(AcceptError::KeyReused(filled.keyed))]);
    assert_eq!(
        store.accept_event(IncomingEvent::new(filled.event.clone(), Vec::new())).await.unwrap(),
        EventAcceptance::Duplicate
    );

    let slots = [5, 20].map(|seconds| firing(&filled.schedule, seconds, Some(task(at(seconds))))).to_vec();
    let decided = store.fire(slots, at(50)).await.unwrap();
    assert_eq!(decided, [FiringResult::AlreadyDecided, FiringResult::Skipped], "the task of slot 5 is open");
    let paused = store.fire(vec![firing("paused", 7, None)], at(50)).await.unwrap();
    assert_eq!(paused, [FiringResult::NotActive]);

    let answer = agentry_core::clarification::Resolution::Expired { at: at(50) };
    let answered = store.resolve(filled.open_question, answer.clone()).await.unwrap();
    assert!(matches!(&answered, ResolveResult::Accepted { wake: Some(_), .. }), "{answered:?}");
    assert!(matches!(store.resolve(filled.open_question, answer).await.unwrap(), ResolveResult::AlreadyResolved(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_later_comes_after() {
    let ((folder, _), schema) = (filled().await, Schema::new());
    schema.migrate_from(folder.path()).await.unwrap();
    let store = schema.store().await;
    let living = worker(&store, at(300)).await;

    let last =
        accept(&store, agentry_core::task::Task { priority: agentry_core::task::Priority::Low, ..task(at(300)) }).await;
    let modes = agentry_core::agent::ModeSet::ALL;
    let claimed =
        store.claim(living, ClaimRequest::Next { modes, limit: 1_000, due_by: at(300) }, at(300)).await.unwrap();
    assert_eq!(claimed.last().unwrap().lease.task, last, "its number is the highest");

    let event = fill::event("later");
    assert_eq!(store.accept_event(IncomingEvent::new(event.clone(), Vec::new())).await.unwrap(), EventAcceptance::New);
    assert_eq!(store.recent_events(1).await.unwrap(), [event]);

    let lease = claimed.last().unwrap().lease;
    let outcome = Outcome::from_error(agentry_core::task::TaskError::new(agentry_core::task::ErrorCode::Internal, "x"));
    store.advance(Advance::new(lease, at(301), Step::Finish { outcome, dead_letter: true }).into()).await.unwrap();
    assert_eq!(store.dead_letters(true, None, 1).await.unwrap().items[0].task, last);

    // A new session has a number of its own: it shows no message of another.
    let session = SessionId::new(&agent(), "new");
    accept(&store, message(&session, at(300))).await;
    let claim = store.claim_session(living, &session, at(300)).await.unwrap();
    assert!(matches!(&claim, SessionClaim::Claimed { session, .. } if session.messages == 0), "{claim:?}");
    assert!(store.messages(&session, 0, 10).await.unwrap().is_empty());
    assert_eq!(store.sessions(None, None, 1).await.unwrap().items[0].record.id, session);

    // The ledger continues, too.
    let calls = store.usage(UsageGroup::Agent, at(0), at(86_401)).await.unwrap()[0].calls;
    assert!(calls > 3 && store.ledger(last).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_a_killed_server_is_moved_with_its_log() {
    let (live, copy, schema) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Schema::new());
    let store = sqlite(live.path());
    fill(&store).await;
    // State after a kill: committed data is in the write-ahead log.
    let log = format!("{DATABASE_FILE}-wal");
    assert!(live.path().join(&log).metadata().unwrap().len() > 0);
    for name in [DATABASE_FILE, &log] {
        std::fs::copy(live.path().join(name), copy.path().join(name)).unwrap();
    }
    let report = schema.migrate_from(copy.path()).await.unwrap();
    assert_eq!(report.counts, store.counts().await.unwrap());
    assert!(report.counts.running > 0);
}

/// Names with NUL arrive in the form that the store on PostgreSQL writes and looks for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_with_nul_are_moved_in_the_form_of_the_store() {
    let (folder, schema) = (tempfile::tempdir().unwrap(), Schema::new());
    let session = SessionId::new(&agent(), "a\0b\u{1}c");
    {
        let store = sqlite(folder.path());
        let owner = worker(&store, at(1)).await;
        accept(&store, message(&session, at(1))).await;
        let claimed = store.claim_session(owner, &session, at(1)).await.unwrap();
        let SessionClaim::Claimed { claimed, .. } = claimed else { panic!("{claimed:?}") };
        let mut write = Advance::new(claimed.lease, at(2), Step::Continue);
        let body = JournalBody::PlanRejected { problems: vec!["\0".to_owned()] };
        let scope = Scope::step("a\0b\u{1}c");
        write.journal.push(JournalEntry { seq: 0, attempt: 1, scope, at: at(2), body });
        store.advance(write.into()).await.unwrap();
    }
    schema.migrate_from(folder.path()).await.unwrap();
    let columns = format!(
        "SELECT s.id, t.session, o.session, j.scope
         FROM {0}.sessions s, {0}.tasks t, {0}.open_tasks o, {0}.journal j",
        schema.0
    );
    let row = client().await.query_one(&columns, &[]).await.unwrap();
    let kept: Vec<&str> = (0..4).map(|column| row.get(column)).collect();
    let form = "a\u{1}0b\u{1}1c";
    assert_eq!(kept[..3], [&*format!("writer:{form}"); 3]);
    assert_eq!(kept[3], format!("step/{form}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_folder_is_moved() {
    let (folder, schema) = (tempfile::tempdir().unwrap(), Schema::new());
    drop(sqlite(folder.path()));
    assert_eq!(schema.migrate_from(folder.path()).await.unwrap().rows(), 0);
    let tables = format!("SELECT count(*) FROM pg_tables WHERE schemaname = '{}'", schema.0);
    let row = client().await.query_one(&tables, &[]).await.unwrap();
    assert!(row.get::<_, i64>(0) > 15);
    accept(&schema.store().await, task(at(0))).await;
}
