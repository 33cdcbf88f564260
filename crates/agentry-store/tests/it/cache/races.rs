//! Several processes write and read concurrently; no read contradicts an earlier acknowledgement.
//!
//! Each test keeps a ledger of acknowledged writes. A reader looks at it *before* it reads, and may then see that state
//! or a newer one. One of the caches reaches Redis through a link that delays every chunk, so that its entries arrive
//! long after they became outdated.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentry_core::id::{TaskId, WorkerId};
use agentry_core::session::SessionId;
use agentry_core::task::{TaskRecord, TaskStatus};
use agentry_lab::{FaultProxy, Shape};
use agentry_store::cache::CachedStore;
use agentry_store::contract::advance::entry;
use agentry_store::contract::build::{accept, claim, finish, task};
use agentry_store::sqlite::{SqliteOptions, SqliteStore};
use agentry_store::{Advance, StateStore, Step};
use rand::seq::IndexedRandom;

use super::fixtures::{begin_turn, connected, end_turn, now, options, thread};
use super::server::{Prefix, proxy_to, shared_url};

/// Tasks or sessions that change concurrently.
const SLOTS: usize = 4;
const READERS: usize = 12;
const TASKS_PER_SLOT: usize = 40;
const LIVES_PER_SLOT: usize = 3;
const TURNS_PER_LIFE: u64 = 12;

/// Two caches over one store; the second one's link to Redis is slow.
struct Deployment {
    caches: Vec<Arc<CachedStore>>,
    over: AtomicBool,
    _proxy: FaultProxy,
    _prefix: Prefix,
    _folder: tempfile::TempDir,
}

impl Deployment {
    async fn new() -> Arc<Self> {
        let (prefix, folder) = (Prefix::new(), tempfile::tempdir().unwrap());
        let inner: Arc<dyn StateStore> = Arc::new(SqliteStore::open(folder.path(), SqliteOptions::default()).unwrap());
        let (proxy, proxy_url) = proxy_to(&shared_url()).await;
        let make = |url: &str| Arc::new(CachedStore::connect(Arc::clone(&inner), options(url, &prefix)));
        let caches = vec![make(&shared_url()), make(&proxy_url)];
        for cache in &caches {
            connected(cache).await;
        }
        proxy.shape_both(Shape::latency(Duration::ZERO, Duration::from_millis(15)));
        Arc::new(Self { caches, over: AtomicBool::new(false), _proxy: proxy, _prefix: prefix, _folder: folder })
    }

    /// Returns a random cache.
    fn any(&self) -> Arc<dyn StateStore> {
        let cache: Arc<CachedStore> = self.caches.choose(&mut rand::rng()).unwrap().clone();
        cache
    }

    /// Runs writers to their end, and readers meanwhile.
    async fn run<W, R>(&self, writers: Vec<W>, readers: Vec<R>)
    where
        W: Future<Output = ()> + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let readers: Vec<_> = readers.into_iter().map(tokio::spawn).collect();
        let writers: Vec<_> = writers.into_iter().map(tokio::spawn).collect();
        for writer in writers {
            writer.await.unwrap();
        }
        self.over.store(true, Ordering::SeqCst);
        for reader in readers {
            reader.await.unwrap();
        }
    }
}

/// Sleeps for up to `most_ms` milliseconds.
async fn pause(most_ms: u64) {
    tokio::time::sleep(Duration::from_micros(rand::random_range(0..=most_ms * 1_000))).await;
}

/// Progress of a task, which grows with every write to it.
type Progress = (u32, u8, usize);

fn progress(record: &TaskRecord, journal: usize) -> Progress {
    let phase = match record.status {
        TaskStatus::Running => 0,
        TaskStatus::Queued => 1,
        _ => 2,
    };
    (record.epoch, phase, journal)
}

/// Acknowledged progress of the tasks of a slot, newest last.
type TaskLedger = Arc<Mutex<Vec<(TaskId, Progress)>>>;

async fn write_tasks(deployment: Arc<Deployment>, ledger: TaskLedger) {
    let acknowledge = |id, progress| {
        let mut ledger = ledger.lock().unwrap();
        match ledger.last_mut() {
            Some((last, known)) if *last == id => *known = progress,
            _ => ledger.push((id, progress)),
        }
    };
    for _ in 0..TASKS_PER_SLOT {
        let id = accept(&deployment.any(), task(now())).await;
        acknowledge(id, (0, 1, 0));
        let mut journal = 0;
        for epoch in 1..=2 {
            pause(15).await;
            let lease = claim(&deployment.any(), WorkerId::generate(), id, now()).await.unwrap().lease;
            acknowledge(id, (epoch, 0, journal));
            pause(15).await;
            let mut write = Advance::new(lease, now(), Step::Continue);
            write.journal = vec![entry(0)];
            deployment.any().advance(write.into()).await.unwrap();
            journal += 1;
            acknowledge(id, (epoch, 0, journal));
            pause(15).await;
            let last = epoch == 2;
            let write = if last { finish(lease, now()) } else { Advance::new(lease, now(), Step::Release) };
            deployment.any().advance(write.into()).await.unwrap();
            acknowledge(id, (epoch, if last { 2 } else { 1 }, journal));
        }
    }
}

async fn read_tasks(deployment: Arc<Deployment>, ledgers: Vec<TaskLedger>) {
    while !deployment.over.load(Ordering::SeqCst) {
        let known = {
            let ledger = ledgers.choose(&mut rand::rng()).unwrap().lock().unwrap();
            // Mostly the newest, sometimes one that ended long ago.
            let recent = &ledger[ledger.len().saturating_sub(3)..];
            recent.choose(&mut rand::rng()).copied()
        };
        let Some((id, (epoch, phase, entries))) = known else {
            pause(2).await;
            continue;
        };
        let record = deployment.any().task(id).await.unwrap().expect("an accepted task is there");
        let seen = progress(&record, entries);
        assert!(seen >= (epoch, phase, entries), "task {id}: {seen:?} after {:?}", (epoch, phase, entries));
        let journal = deployment.any().journal(id, 0, 100).await.unwrap();
        assert!(journal.len() >= entries, "journal of {id}: {} entries after {entries}", journal.len());
        assert!(!record.status.is_terminal() || (journal.len() == 2 && record.outcome.is_some()), "{record:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_task_is_seen_older_than_acknowledged() {
    let deployment = Deployment::new().await;
    let ledgers: Vec<TaskLedger> = (0..SLOTS).map(|_| Arc::default()).collect();
    let writers = ledgers.iter().map(|ledger| write_tasks(Arc::clone(&deployment), Arc::clone(ledger))).collect();
    let readers = (0..READERS).map(|_| read_tasks(Arc::clone(&deployment), ledgers.clone())).collect();
    deployment.run(writers, readers).await;
    for cache in &deployment.caches {
        let stats = cache.stats();
        assert!(stats.tasks.hits > 10 && stats.journals.hits > 10, "the cache was not in the way: {stats:?}");
    }
}

/// Acknowledged state of a session: its life, and the number of its messages.
type SessionLedger = Arc<Mutex<(u64, u64)>>;

fn text(life: u64, number: u64) -> String {
    format!("{life}/{number}")
}

/// Parses life and number of a message.
fn parse(text: &str) -> (u64, u64) {
    let (life, number) = text.split_once('/').unwrap();
    (life.parse().unwrap(), number.parse().unwrap())
}

async fn write_session(deployment: Arc<Deployment>, session: SessionId, ledger: SessionLedger) {
    for life in 0..LIVES_PER_SLOT as u64 {
        let mut count = 0;
        for _ in 0..TURNS_PER_LIFE {
            pause(10).await;
            // The worker reads its window through the cache by which it claimed; the next turn may be another worker's.
            let store = deployment.any();
            let (claimed, record) = begin_turn(&store, &session).await;
            assert_eq!(record.messages, count);
            let after = rand::random_range(0..=count);
            let window = store.messages(&session, after, usize::try_from(count - after).unwrap()).await.unwrap();
            let texts: Vec<_> = window.iter().map(|kept| kept.message.content().to_owned()).collect();
            assert_eq!(texts, (after + 1..=count).map(|number| text(life, number)).collect::<Vec<_>>());
            end_turn(&store, &claimed, &record, &[&text(life, count + 1), &text(life, count + 2)]).await;
            count += 2;
            *ledger.lock().unwrap() = (life, count);
        }
        assert!(deployment.any().delete_session(&session).await.unwrap());
        *ledger.lock().unwrap() = (life + 1, 0);
    }
}

async fn read_session(deployment: Arc<Deployment>, slots: Vec<(SessionId, SessionLedger)>) {
    while !deployment.over.load(Ordering::SeqCst) {
        let (session, ledger) = slots.choose(&mut rand::rng()).unwrap();
        let store = deployment.any();
        let (life, count) = *ledger.lock().unwrap();
        let Some(view) = store.session(session).await.unwrap() else { continue };
        let messages = view.record.messages;
        // The same record is relied on for a while: a deletion may be acknowledged meanwhile.
        for _ in 0..rand::random_range(1..40) {
            let (life_now, _) = *ledger.lock().unwrap();
            let after = rand::random_range(0..=messages);
            let limit = usize::try_from(messages - after).unwrap();
            let kept = store.messages(session, after, limit).await.unwrap();
            let seen: Vec<_> = kept.iter().map(|kept| (kept.number, parse(kept.message.content()))).collect();
            for (number, (seen_life, seen_number)) in &seen {
                assert!(*seen_life >= life_now, "{session}: life {seen_life} was seen after {life_now} had begun");
                assert_eq!(number, seen_number);
                assert_eq!(*seen_life, seen[0].1.0, "{session}: two lives in one answer");
            }
            let complete = seen.len() == limit;
            let same_life = life_now == life && seen.first().is_none_or(|(_, (seen, _))| *seen == life);
            assert!(!same_life || messages >= count || ledger.lock().unwrap().0 > life, "messages were lost");
            assert!(complete || ledger_moved(ledger, life, &seen, deployment.as_ref()).await, "{session}: gaps");
            pause(12).await;
        }
    }
}

/// Returns whether an incomplete answer is explained: the life of the record is over, or its end is about to be
/// acknowledged.
async fn ledger_moved(ledger: &SessionLedger, life: u64, seen: &[(u64, (u64, u64))], deployment: &Deployment) -> bool {
    if seen.first().is_some_and(|(_, (seen, _))| *seen != life) {
        return true;
    }
    for _ in 0..2_000 {
        if ledger.lock().unwrap().0 > life || deployment.over.load(Ordering::SeqCst) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_is_seen_older_than_acknowledged() {
    let deployment = Deployment::new().await;
    let slots: Vec<(SessionId, SessionLedger)> =
        (0..SLOTS).map(|slot| (thread(&format!("race {slot}")), SessionLedger::default())).collect();
    let writers = slots
        .iter()
        .map(|(session, ledger)| write_session(Arc::clone(&deployment), session.clone(), Arc::clone(ledger)))
        .collect();
    let readers = (0..READERS).map(|_| read_session(Arc::clone(&deployment), slots.clone())).collect();
    deployment.run(writers, readers).await;
    for cache in &deployment.caches {
        let stats = cache.stats();
        assert!(stats.messages.hits > 10, "the cache was not in the way: {stats:?}");
    }
}
