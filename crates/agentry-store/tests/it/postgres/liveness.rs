//! Liveness on PostgreSQL: heartbeats by the server's clock, locks that a killed process frees, and a server that
//! stalls for seconds, which must not count as a death.
//!
//! A frozen server is a link that carries nothing: pending statements run when the link is healed, by a server whose
//! clock went on.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::id::WorkerId;
use agentry_core::wake::Wake;
use agentry_core::worker::{HEARTBEAT, MISSED_HEARTBEATS};
use agentry_lab::{FaultProxy, Shape};
use agentry_store::contract::build::{T0, accept, at, claim, finish, heartbeat, running, task, worker};
use agentry_store::contract::outbox::callback;
use agentry_store::{Lease, StateStore, StoreError};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::schema::{Schema, client, url};
use crate::{now, proxy_to};

/// Timeout of waits.
const SOON: Duration = Duration::from_secs(20);
/// Age of a heartbeat from which a worker counts as dead.
const MISSED: Duration = HEARTBEAT.saturating_mul(MISSED_HEARTBEATS);

/// Returns a worker that may judge others as far as its heartbeats go.
async fn judge(schema: &Schema, store: &Arc<dyn StateStore>) -> WorkerId {
    let judge = worker(store, T0).await;
    schema.age(judge, Duration::ZERO).await;
    judge
}

/// Polls until a value is there.
async fn soon<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(SOON, found).await.unwrap_or_else(|_| panic!("{what} did not come within {SOON:?}"))
}

/// Starts a proxy in front of the server; returns it with its own URL.
async fn proxy() -> (FaultProxy, String) {
    let config: tokio_postgres::Config = url().parse().unwrap();
    let [tokio_postgres::config::Host::Tcp(host)] = config.get_hosts() else { panic!("one TCP host") };
    let proxy = proxy_to(host, config.get_ports().first().copied().unwrap_or(5432)).await;
    let (user, password) = (config.get_user().unwrap_or("postgres"), config.get_password().unwrap_or_default());
    let (password, address) = (std::str::from_utf8(password).unwrap(), proxy.address());
    let url = format!("postgres://{user}:{password}@{address}/{}", config.get_dbname().unwrap_or(user));
    (proxy, url)
}

/// A process: a store of its own with a worker that sends heartbeats and runs recovery, each once a second.
struct Process {
    store: Arc<dyn StateStore>,
    worker: WorkerId,
    recovered: watch::Receiver<Vec<Wake>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Process {
    /// `offset`: phase of its heartbeats within a second.
    async fn start(store: Arc<dyn StateStore>, offset: Duration) -> Self {
        let worker = worker(&store, now()).await;
        let (recover, recovered) = watch::channel(Vec::new());
        let beats = {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                sleep(offset).await;
                loop {
                    heartbeat(&store, worker, now()).await;
                    sleep(HEARTBEAT).await;
                }
            })
        };
        let recovers = {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                loop {
                    let found = store.recover(worker, now(), 100).await.unwrap();
                    recover.send_modify(|all| all.extend(found));
                    sleep(HEARTBEAT / 10).await;
                }
            })
        };
        Self { store, worker, recovered, tasks: vec![beats, recovers] }
    }

    async fn run_a_task(&self) -> Lease {
        let id = accept(&self.store, task(now())).await;
        claim(&self.store, self.worker, id, now()).await.unwrap().lease
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Freezes of many lengths, around the limits of two and of three heartbeats, count as nobody's death. Afterwards a
/// worker that falls silent is noticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_counts_as_no_death() {
    let (schema, (proxy, url)) = (Schema::new(), proxy().await);
    let mut processes = Vec::new();
    for n in 0..4 {
        processes.push(Process::start(schema.store_at(&url).await, HEARTBEAT / 4 * n).await);
    }
    let mut leases = Vec::new();
    for process in &processes {
        leases.push(process.run_a_task().await);
    }
    // Long enough for every judge to be allowed to judge.
    sleep(MISSED + HEARTBEAT * 2).await;
    for freeze in [1_800, 2_200, 2_900, 4_000, 6_000] {
        proxy.shape_both(Shape::black_hole());
        sleep(Duration::from_millis(freeze)).await;
        proxy.heal();
        sleep(MISSED + HEARTBEAT).await;
        for process in &processes {
            assert_eq!(*process.recovered.borrow(), [], "restarted after a freeze of {freeze} ms");
        }
    }
    let silent = processes.pop().unwrap();
    let lost = leases.pop().unwrap();
    silent.tasks.iter().for_each(JoinHandle::abort);
    let recovered = soon("the recovery of a silent worker's task", || async {
        processes.iter().find_map(|process| process.recovered.borrow().first().cloned())
    })
    .await;
    assert_eq!(recovered.task, lost.task);
    for (process, lease) in processes.iter().zip(leases) {
        process.store.advance(finish(lease, now()).into()).await.unwrap();
    }
}

/// The clock of a worker does not count, neither one that is months late nor one that is hours ahead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_are_stamped_and_judged_by_the_servers_clock() {
    let schema = Schema::new();
    let store = schema.store().await;
    let judge = judge(&schema, &store).await;
    let (late, ahead) = (worker(&store, T0).await, worker(&store, now().after(Duration::from_secs(7_200))).await);
    let (kept, lost) = (running(&store, late).await.lease, running(&store, ahead).await.lease);
    for now in [T0, now(), now().after(Duration::from_secs(86_400))] {
        assert!(store.recover(judge, now, 10).await.unwrap().is_empty());
        let workers = store.workers(now).await.unwrap();
        assert!(workers.iter().all(|worker| worker.is_alive(now)) && workers.len() == 3, "{workers:?}");
    }
    schema.age(ahead, MISSED + HEARTBEAT).await;
    schema.age(judge, Duration::ZERO).await;
    let workers = store.workers(T0).await.unwrap();
    let dead: Vec<_> = workers.iter().filter(|worker| !worker.is_alive(T0)).map(|worker| worker.id).collect();
    assert_eq!(dead, [ahead]);
    assert_eq!(store.recover(judge, T0, 10).await.unwrap()[0].task, lost.task);
    store.advance(finish(kept, at(1)).into()).await.unwrap();
}

/// A worker whose heartbeat arrives between the judgement and the recovery keeps its tasks: the recovery locks the rows
/// of those it declares dead, and checks their heartbeats again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_during_the_judgement_counts() {
    let schema = Schema::new();
    let (store, other) = (schema.store().await, schema.store().await);
    let judge = judge(&schema, &store).await;
    let worker = worker(&other, T0).await;
    let lease = running(&other, worker).await.lease;
    schema.age(worker, MISSED + HEARTBEAT).await;
    // Its heartbeat is about to be committed.
    let client = client().await;
    let beat =
        format!("BEGIN; UPDATE {0}.workers SET heartbeat_at = heartbeat_at + 9000000 WHERE id = '{worker}'", schema.0);
    client.batch_execute(&beat).await.unwrap();
    assert!(store.recover(judge, now(), 10).await.unwrap().is_empty());
    client.batch_execute("COMMIT").await.unwrap();
    assert!(store.recover(judge, now(), 10).await.unwrap().is_empty());
    other.advance(finish(lease, at(1)).into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_free_lock_shows_a_dead_worker_before_its_heartbeats_do() {
    let schema = Schema::new();
    let (living, doomed) = (schema.store().await, schema.store().await);
    let judge = judge(&schema, &living).await;
    let dead = worker(&doomed, T0).await;
    let lease = running(&doomed, dead).await.lease;
    // A free lock counts as a death once the judge has held its own for as long as a death takes otherwise.
    sleep(MISSED).await;
    let recover = async || {
        schema.age(judge, Duration::ZERO).await;
        schema.age(dead, MISSED - HEARTBEAT).await;
        living.recover(judge, now(), 10).await.unwrap()
    };
    assert!(recover().await.is_empty(), "its lock is held");
    // The connection that holds the lock closes with the store, as with a killed process.
    drop(doomed);
    let recovered = soon("the recovery", || async { recover().await.pop() }).await;
    assert_eq!(recovered.task, lease.task);
    assert_eq!(living.advance(finish(lease, at(2)).into()).await, Err(StoreError::Fenced));
    assert_eq!(living.workers(now()).await.unwrap().iter().map(|one| one.id).collect::<Vec<_>>(), [judge]);
}

/// Terminating all connections frees all locks, and counts as nobody's death.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminated_connections_count_as_no_death() {
    let schema = Schema::new();
    let (store, other) = (schema.store().await, schema.store().await);
    let judge = judge(&schema, &store).await;
    let worker = worker(&other, T0).await;
    let lease = running(&other, worker).await.lease;
    sleep(MISSED).await;
    assert!(schema.terminate(&client().await).await > 0);
    for _ in 0..5 {
        // The judge is back at once, the other one is slow to connect.
        heartbeat(&store, judge, now()).await;
        schema.age(judge, Duration::ZERO).await;
        schema.age(worker, MISSED - HEARTBEAT).await;
        assert!(store.recover(judge, now(), 10).await.unwrap().is_empty());
        sleep(HEARTBEAT / 4).await;
    }
    heartbeat(&other, worker, now()).await;
    sleep(MISSED).await;
    schema.age(judge, Duration::ZERO).await;
    schema.age(worker, MISSED - HEARTBEAT).await;
    assert!(store.recover(judge, now(), 10).await.unwrap().is_empty(), "it has its lock again");
    other.advance(finish(lease, at(4)).into()).await.unwrap();
}

/// A heartbeat uses a connection of its own, because those of the pool may all be busy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_does_not_wait_for_busy_connections() {
    let schema = Schema::new();
    let store = schema.store().await;
    let worker = worker(&store, T0).await;
    let holder = client().await;
    holder
        .batch_execute(&format!("BEGIN; LOCK TABLE {}.agent_status IN ACCESS EXCLUSIVE MODE", schema.0))
        .await
        .unwrap();
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.agent_statuses().await.is_ok() })
        })
        .collect();
    soon("a call that waits for the lock", || async {
        let sql = "SELECT 1 FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'";
        (client().await.query(sql, &[&schema.0]).await.unwrap().len() >= 2).then_some(())
    })
    .await;
    let sent = tokio::time::timeout(HEARTBEAT, heartbeat(&store, worker, now())).await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    sent.expect("the heartbeat waited");
    for call in waiting {
        assert!(call.await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_relay_frees_its_messages_before_its_heartbeats_are_missed() {
    let schema = Schema::new();
    let (living, doomed) = (schema.store().await, schema.store().await);
    let rival = judge(&schema, &living).await;
    let dead = worker(&doomed, T0).await;
    let lease = running(&living, rival).await.lease;
    let mut end = finish(lease, at(1));
    end.outbox.push(callback(lease.task));
    living.advance(end.into()).await.unwrap();
    assert_eq!(doomed.claim_outbox(dead, at(1), 10, &[]).await.unwrap().len(), 1);
    sleep(MISSED).await;
    let claim = async || {
        schema.age(rival, Duration::ZERO).await;
        schema.age(dead, MISSED - HEARTBEAT).await;
        living.recover(rival, now(), 10).await.unwrap();
        living.claim_outbox(rival, at(2), 10, &[]).await.unwrap().pop()
    };
    assert!(claim().await.is_none(), "its lock is held, its heartbeat is young");
    drop(doomed);
    let claimed = soon("the message", claim).await;
    assert_eq!(claimed.attempt, 2);
}
