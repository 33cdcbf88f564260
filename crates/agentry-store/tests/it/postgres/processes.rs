//! Many processes on one database, and lost connections.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agentry_core::agent::ModeSet;
use agentry_core::id::{TaskId, WorkerId};
use agentry_core::task::TaskStatus;
use agentry_core::time::Timestamp;
use agentry_store::contract::T0;
use agentry_store::contract::advance::{a_broken_write_fails_alone, entry};
use agentry_store::contract::build::{accept, agent, at, claim, finish, ledger_row, message, running, task, worker};
use agentry_store::contract::queue::a_bound_of_two_tasks_holds;
use agentry_store::postgres::{PostgresOptions, PostgresStore};
use agentry_store::{Advance, ClaimRequest, QueueCounts, SessionClaim, StateStore, Step};

use crate::schema::{HINT, Schema, client, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_start_at_once() {
    let schema = Schema::new();
    let starts = (0..8).map(|_| PostgresStore::connect(schema.options()));
    for started in futures_util::future::join_all(starts).await {
        started.unwrap();
    }
    let sql = format!("SELECT count(*) - max(version) FROM {}.schema_versions", schema.0);
    let repeated: i64 = client().await.query_one(&sql, &[]).await.unwrap().get(0);
    assert_eq!(repeated, 0, "each migration once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_database_is_refused() {
    let (schema, store) = open();
    drop(store);
    let sql = format!("INSERT INTO {}.schema_versions (version) VALUES (99)", schema.0);
    client().await.batch_execute(&sql).await.unwrap();
    let error = PostgresStore::connect(schema.options()).await.err().unwrap().to_string();
    assert!(error.contains("is of version 99, written by a newer Agentry"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_server_is_reported() {
    // Port 1 of the loopback has no listener.
    let options = PostgresOptions::new("postgres://postgres:secret@127.0.0.1:1/postgres");
    let error = PostgresStore::connect(options).await.err().unwrap();
    assert!(error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("PostgreSQL cannot be reached"), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_claimers_never_claim_a_task_twice() {
    let (schema, one) = open();
    let two = schema.store().await;
    let ids: Vec<TaskId> = futures_util::future::join_all((0..200).map(|_| accept(&one, task(T0)))).await;
    let claimers: Vec<_> = (0..8)
        .map(|n| {
            let (store, ids) = (Arc::clone(if n % 2 == 0 { &one } else { &two }), ids.clone());
            tokio::spawn(async move {
                let worker = WorkerId::generate();
                let mut mine = Vec::new();
                for part in ids.chunks(20) {
                    mine.extend(store.claim(worker, ClaimRequest::Tasks(part.to_vec()), T0).await.unwrap());
                    let next = ClaimRequest::Next { modes: ModeSet::ALL, limit: 5, due_by: T0 };
                    mine.extend(store.claim(worker, next, T0).await.unwrap());
                }
                assert!(mine.iter().all(|claimed| claimed.lease.worker == worker && claimed.lease.epoch == 1));
                mine.into_iter().map(|claimed| claimed.lease.task).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut won = Vec::new();
    for claimer in claimers {
        won.extend(claimer.await.unwrap());
    }
    assert_eq!(won.len(), 200);
    assert_eq!(won.into_iter().collect::<HashSet<_>>(), ids.into_iter().collect());
    assert_eq!(two.counts().await.unwrap(), QueueCounts { queued: 0, running: 200, waiting: 0 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_has_one_owner_whoever_asks() {
    let (schema, one) = open();
    let two = schema.store().await;
    let thread = agentry_core::session::SessionId::new(&agent(), "thread");
    let first = accept(&one, message(&thread, T0)).await;
    accept(&two, message(&thread, T0)).await;
    let claims = (0..12).map(|n| {
        let (store, thread) = (Arc::clone(if n % 2 == 0 { &one } else { &two }), thread.clone());
        async move {
            let worker = worker(&store, T0).await;
            store.claim_session(worker, &thread, T0).await.unwrap()
        }
    });
    let mut won = Vec::new();
    for claim in futures_util::future::join_all(claims).await {
        match claim {
            SessionClaim::Claimed { claimed, session } => won.push((claimed.lease.task, session.fence)),
            other => assert!(matches!(other, SessionClaim::Busy), "{other:?}"),
        }
    }
    assert_eq!(won, [(first, 1)]);
}

/// Takes one task through the store while its connections are cut all the time.
async fn work(store: Arc<dyn StateStore>, worker: WorkerId) -> TaskId {
    let id = accept(&store, task(T0)).await;
    let claimed = claim(&store, worker, id, T0).await.expect("nobody else wants it");
    let mut step = Advance::new(claimed.lease, at(1), Step::Continue);
    step.journal.extend([entry(1), entry(2)]);
    store.advance(step.into()).await.unwrap();
    let mut end = finish(claimed.lease, at(2));
    end.journal.push(entry(3));
    end.ledger.push(ledger_row(id, "a"));
    store.advance(end.into()).await.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_lose_nothing_and_repeat_nothing() {
    let (schema, store) = open();
    let done = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (store, done) = (Arc::clone(&store), Arc::clone(&done));
            tokio::spawn(async move {
                let (worker, mut ids) = (WorkerId::generate(), Vec::new());
                while !done.load(Ordering::Relaxed) {
                    ids.push(work(Arc::clone(&store), worker).await);
                }
                ids
            })
        })
        .collect();
    let (cutter, mut cut) = (client().await, 0);
    for _ in 0..25 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        cut += schema.terminate(&cutter).await;
    }
    done.store(true, Ordering::Relaxed);
    let mut ids = Vec::new();
    for caller in callers {
        ids.extend(caller.await.unwrap());
    }
    assert!(cut > 10 && ids.len() > 10, "{cut} connections were cut under {} tasks", ids.len());
    for id in &ids {
        let record = store.task(*id).await.unwrap().unwrap();
        assert_eq!((record.status, record.epoch, record.attempt), (TaskStatus::Completed, 1, 1));
        let bodies: Vec<_> =
            store.journal(*id, 0, 100).await.unwrap().into_iter().map(|one| (one.seq, one.body)).collect();
        assert_eq!(bodies, [(1, entry(1).body), (2, entry(2).body), (3, entry(3).body)]);
        assert_eq!(store.ledger(*id).await.unwrap().len(), 1);
    }
    assert_eq!(store.counts().await.unwrap(), QueueCounts::default());
    assert!(
        store.tasks(&agentry_store::TaskFilter::default(), None, 1_000).await.unwrap().items.len()
            >= ids.len().min(1_000)
    );
}

/// A task that another transaction has locked is skipped, and recovered by the next recovery.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_task_is_recovered_by_the_next_recovery() {
    let (schema, store) = open();
    let (dead, judge) = (worker(&store, T0).await, worker(&store, T0).await);
    schema.age(judge, Duration::ZERO).await;
    schema.age(dead, Duration::from_secs(9)).await;
    let (free, held) = (running(&store, dead).await.lease.task, running(&store, dead).await.lease.task);
    let holder = client().await;
    let lock = format!("BEGIN; SELECT 1 FROM {}.open_tasks WHERE id = '{held}' FOR UPDATE", schema.0);
    holder.batch_execute(&lock).await.unwrap();
    let tasks =
        async || store.recover(judge, at(9), 10).await.unwrap().into_iter().map(|one| one.task).collect::<Vec<_>>();
    assert_eq!(tasks().await, [free]);
    assert!(tasks().await.is_empty(), "it is still held");
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(tasks().await, [held]);
    assert!(tasks().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_recoveries_requeue_each_task_once() {
    let (schema, one) = open();
    let two = schema.store().await;
    let (dead, first, second) = (worker(&one, T0).await, worker(&one, T0).await, worker(&two, T0).await);
    for _ in 0..20 {
        running(&one, dead).await;
    }
    schema.age(dead, Duration::from_secs(9)).await;
    schema.age(first, Duration::ZERO).await;
    schema.age(second, Duration::ZERO).await;
    let judges = (0..8).map(|n| if n % 2 == 0 { (&one, first) } else { (&two, second) });
    let recoveries = judges.map(|(store, judge)| store.recover(judge, at(9), 7));
    let mut recovered = Vec::new();
    for found in futures_util::future::join_all(recoveries).await {
        let found = found.unwrap();
        assert!(found.len() <= 7, "bounded");
        recovered.extend(found.into_iter().map(|one| one.task));
    }
    // Rows that another recovery had locked are left to it; remaining ones come with a later recovery.
    while let Some(more) = Some(one.recover(first, at(9), 7).await.unwrap()).filter(|more| !more.is_empty()) {
        recovered.extend(more.into_iter().map(|one| one.task));
    }
    assert_eq!(recovered.len(), 20);
    assert_eq!(recovered.into_iter().collect::<HashSet<_>>().len(), 20);
    assert_eq!(one.counts().await.unwrap(), QueueCounts { queued: 20, running: 0, waiting: 0 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_has_a_bound() {
    let schema = Schema::new();
    let store = PostgresStore::connect(PostgresOptions { max_queued: 2, ..schema.options() }).await.expect(HINT);
    a_bound_of_two_tasks_holds(Arc::new(store)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_write_fails_alone() {
    let (_schema, store) = open();
    // The running time up to such an end is beyond PostgreSQL's numbers.
    a_broken_write_fails_alone(store, |end| end.at = Timestamp(i64::MIN)).await;
}
