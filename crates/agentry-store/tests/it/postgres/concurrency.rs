//! Concurrent processes on one PostgreSQL: each store here stands for a process.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use agentry_core::clarification::{Clarification, Resolution};
use agentry_core::event::Event;
use agentry_core::fleet::AgentState;
use agentry_core::id::{OutboxId, WorkerId};
use agentry_core::journal::{JournalBody, JournalEntry, Scope};
use agentry_core::outbox::OutboxMessage;
use agentry_core::schedule::ScheduleRecord;
use agentry_core::session::SessionId;
use agentry_core::task::TaskStatus;
use agentry_store::contract::advance::entry;
use agentry_store::contract::build::{
    self, T0, accept, agent, ask, at, claim, event, finish, firing, give_up, keyed, ledger_row, message, question,
    running, take_session, task, turn, worker,
};
use agentry_store::contract::outbox::callback;
use agentry_store::{
    AcceptError, Acceptance, Advance, AgentStatus, Delivery, EventAcceptance, Firing, FiringResult, IncomingEvent,
    QueueCounts, ResolveResult, StateStore, Step,
};
use futures_util::future::join_all;

use crate::schema::Schema;

const PROCESSES: usize = 4;
/// Rounds of a race: each is decided anew, and the machine's scheduling differs between rounds.
const ROUNDS: usize = 20;

struct Cluster {
    stores: Vec<Arc<dyn StateStore>>,
    schema: Schema,
}

impl Cluster {
    async fn start() -> Self {
        let schema = Schema::new();
        let stores = join_all((0..PROCESSES).map(|_| schema.store())).await;
        Self { stores, schema }
    }

    fn one(&self) -> &Arc<dyn StateStore> {
        &self.stores[0]
    }

    /// Runs the same in every process at once.
    async fn all<T, F, R>(&self, run: F) -> Vec<T>
    where
        T: Send + 'static,
        F: Fn(usize, Arc<dyn StateStore>) -> R,
        R: Future<Output = T> + Send + 'static,
    {
        let running: Vec<_> =
            (0..).zip(&self.stores).map(|(n, store)| tokio::spawn(run(n, Arc::clone(store)))).collect();
        join_all(running).await.into_iter().map(Result::unwrap).collect()
    }
}

fn answer(by: usize) -> Resolution {
    Resolution::Answered { answer: format!("answer {by}"), by: by.to_string(), at: at(2) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_four_answers_one_wins_and_wakes() {
    let cluster = Cluster::start().await;
    for _ in 0..ROUNDS {
        let lease = running(cluster.one(), WorkerId::generate()).await.lease;
        let asked = ask(cluster.one(), lease, 1, Step::Wait).await.remove(0);
        let id = asked.id;
        let answers = cluster.all(move |n, store| async move { store.resolve(id, answer(n)).await.unwrap() }).await;
        let won: Vec<_> =
            answers.iter().filter(|one| matches!(one, ResolveResult::Accepted { wake: Some(_), .. })).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        let ResolveResult::Accepted { clarification: winner, .. } = won[0] else { unreachable!() };
        for other in &answers {
            if let ResolveResult::AlreadyResolved(kept) = other {
                assert_eq!(kept.resolution, winner.resolution);
            }
        }
        let journal = cluster.one().journal(lease.task, 0, 10).await.unwrap();
        assert_eq!(journal.len(), 1, "{journal:?}");
        assert_eq!(cluster.one().task(lease.task).await.unwrap().unwrap().status, TaskStatus::Queued);
    }
    let counts = QueueCounts { queued: ROUNDS as u64, running: 0, waiting: 0 };
    assert_eq!(cluster.one().counts().await.unwrap(), counts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_several_answers_wakes_once() {
    let cluster = Cluster::start().await;
    for _ in 0..ROUNDS {
        let lease = running(cluster.one(), WorkerId::generate()).await.lease;
        let ids: Vec<_> = ask(cluster.one(), lease, PROCESSES, Step::Wait).await.iter().map(|one| one.id).collect();
        let answers = cluster
            .all(|n, store| {
                let id = ids[n];
                async move { store.resolve(id, answer(n)).await.unwrap() }
            })
            .await;
        assert!(answers.iter().all(|one| matches!(one, ResolveResult::Accepted { .. })), "{answers:?}");
        let wakes = answers.iter().filter(|one| matches!(one, ResolveResult::Accepted { wake: Some(_), .. })).count();
        assert_eq!(wakes, 1, "{answers:?}");
        let journal = cluster.one().journal(lease.task, 0, 10).await.unwrap();
        assert_eq!(journal.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}

/// The answer and the wait for it meet in either order: one of them queues the task again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_and_the_wait_cannot_miss_each_other() {
    let cluster = Cluster::start().await;
    for _ in 0..ROUNDS {
        let lease = running(cluster.one(), WorkerId::generate()).await.lease;
        let id = ask(cluster.one(), lease, 1, Step::Continue).await[0].id;
        let [one, two] = [&cluster.stores[0], &cluster.stores[1]];
        let (answered, waited) =
            tokio::join!(one.resolve(id, answer(0)), two.advance(Advance::new(lease, at(3), Step::Wait).into()));
        let woke = matches!(answered.unwrap(), ResolveResult::Accepted { wake: Some(_), .. });
        assert_ne!(woke, waited.unwrap().requeued, "one of both says that it is queued");
        assert_eq!(one.task(lease.task).await.unwrap().unwrap().status, TaskStatus::Queued);
    }
}

fn schedule(name: &str) -> ScheduleRecord {
    build::schedule(name, 5_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_schedulers_fire_each_slot_once() {
    let cluster = Cluster::start().await;
    let names: Vec<String> = (0..6).map(|n| format!("report-{n}")).collect();
    for name in &names {
        cluster.one().put_schedules(vec![schedule(name)]).await.unwrap();
    }
    let mut fired = BTreeMap::new();
    for round in 0..ROUNDS as i64 {
        let results = cluster
            .all(|n, store| {
                // Each in another order, with two slots per schedule.
                let mut order = names.clone();
                order.rotate_left(n);
                let slots = [round * 2 + 1, round * 2 + 2];
                let firings: Vec<Firing> =
                    order.iter().flat_map(|name| slots.map(|slot| firing(name, slot, u32::MAX))).collect();
                async move {
                    let results = store.fire(firings.clone(), at(1_000)).await.unwrap();
                    firings.into_iter().zip(results).collect::<Vec<_>>()
                }
            })
            .await;
        for (firing, result) in results.into_iter().flatten() {
            match result {
                FiringResult::Fired(task) => {
                    assert_eq!(fired.insert((firing.schedule, firing.slot), task), None, "fired twice");
                }
                other => assert_eq!(other, FiringResult::AlreadyDecided),
            }
        }
    }
    assert_eq!(fired.len(), names.len() * ROUNDS * 2);
    assert_eq!(cluster.one().counts().await.unwrap().queued, fired.len() as u64);
    for (slot, task) in cluster.one().slots("report-0", 1_000).await.unwrap().iter().map(|slot| (slot.slot, slot.task))
    {
        assert_eq!(fired.get(&("report-0".to_owned(), slot)).copied(), task);
        assert!(cluster.one().task(task.unwrap()).await.unwrap().is_some());
    }
    for kept in cluster.one().schedules_since(0).await.unwrap().changed {
        assert_eq!(kept.last_slot, Some(at(2 * ROUNDS as i64)));
    }
}

/// Four processes fire different slots of a schedule without overlap: one fires, three are skipped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlap_holds_between_processes() {
    let cluster = Cluster::start().await;
    for round in 0..ROUNDS {
        let name = format!("report-{round}");
        cluster.one().put_schedules(vec![schedule(&name)]).await.unwrap();
        let results = cluster
            .all(|n, store| {
                let firing = firing(&name, n as i64, 0);
                async move { store.fire(vec![firing], at(100)).await.unwrap().remove(0) }
            })
            .await;
        let fired = results.iter().filter(|one| matches!(one, FiringResult::Fired(_))).count();
        let skipped = results.iter().filter(|one| matches!(one, FiringResult::Skipped)).count();
        assert_eq!((fired, skipped), (1, PROCESSES - 1), "{results:?}");
        let kept = cluster.one().schedule(&name).await.unwrap().unwrap();
        assert_eq!((kept.skipped, kept.last_slot), (3, Some(at(3))));
    }
}

/// Within a round, earlier slots count: the first fires, the next one is deferred or skipped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_sees_its_own_firings() {
    let cluster = Cluster::start().await;
    let store = cluster.one();
    store.put_schedules(vec![schedule("report")]).await.unwrap();
    let buffered = Firing { buffer: true, ..firing("report", 15, 0) };
    let missed = Firing { task: None, ..firing("report", 20, 0) };
    let round = vec![firing("report", 5, 0), firing("report", 5, 0), firing("report", 10, 0), buffered, missed];
    let results = store.fire(round, at(100)).await.unwrap();
    assert!(
        matches!(
            results[..],
            [
                FiringResult::Fired(_),
                FiringResult::AlreadyDecided,
                FiringResult::Skipped,
                FiringResult::Deferred,
                FiringResult::Missed
            ]
        ),
        "{results:?}"
    );
    assert_eq!(store.fire(vec![firing("other", 5, 0)], at(100)).await.unwrap(), [FiringResult::NotActive]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_made_by_four_begins_once() {
    let cluster = Cluster::start().await;
    for round in 0..ROUNDS {
        let name = format!("report-{round}");
        let made = cluster
            .all(|n, store| {
                let record = ScheduleRecord { created_at: at(n as i64), ..schedule(&name) };
                async move { store.put_schedules(vec![record]).await.unwrap().remove(0) }
            })
            .await;
        let begins: HashSet<i64> = made.iter().map(|record| record.created_at.0).collect();
        assert_eq!(begins.len(), 1, "{made:?}");
    }
}

async fn leave(store: &Arc<dyn StateStore>, count: usize) -> Vec<OutboxMessage> {
    let lease = running(store, WorkerId::generate()).await.lease;
    let messages: Vec<_> =
        (0..count).map(|n| OutboxMessage { created_at: at(-(n as i64 % 7)), ..callback(lease.task) }).collect();
    let mut end = finish(lease, at(1));
    end.outbox.clone_from(&messages);
    store.advance(end.into()).await.unwrap();
    messages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_relays_claim_each_message_once() {
    let cluster = Cluster::start().await;
    let left: HashSet<OutboxId> = leave(cluster.one(), 300).await.iter().map(|message| message.id).collect();
    let claimed = cluster
        .all(|_, store| async move {
            let relay = worker(&store, at(1)).await;
            let mut all = Vec::new();
            loop {
                let batch = store.claim_outbox(relay, at(1), 7, &all).await.unwrap();
                assert!(batch.iter().map(|one| one.message.created_at).is_sorted(), "oldest first");
                assert!(batch.iter().all(|one| one.attempt == 1));
                if batch.is_empty() {
                    return all;
                }
                // Every other batch stays claimed while other processes claim.
                if all.len() % 2 == 0 {
                    let sent = batch.iter().map(|one| (one.message.id, Delivery::Sent)).collect();
                    store.settle_outbox(sent, at(1)).await.unwrap();
                }
                all.extend(batch.into_iter().map(|one| one.message.id));
            }
        })
        .await;
    let all: Vec<OutboxId> = claimed.into_iter().flatten().collect();
    assert_eq!(all.len(), left.len(), "none twice");
    assert_eq!(all.into_iter().collect::<HashSet<_>>(), left);
}

/// A claim whose settlement failed is only late: its relay gets the message again and no other relay does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_could_not_be_settled_comes_again() {
    let cluster = Cluster::start().await;
    let (store, other) = (&cluster.stores[0], &cluster.stores[1]);
    let message = leave(store, 1).await.remove(0);
    let (relay, rival) = (worker(store, at(1)).await, worker(other, at(1)).await);
    assert_eq!(store.claim_outbox(relay, at(1), 10, &[]).await.unwrap().len(), 1);
    let client = cluster.schema.client().await;
    client.batch_execute("ALTER TABLE outbox RENAME TO hidden").await.unwrap();
    store.settle_outbox(vec![(message.id, Delivery::Sent)], at(1)).await.unwrap_err();
    client.batch_execute("ALTER TABLE hidden RENAME TO outbox").await.unwrap();
    assert!(other.claim_outbox(rival, at(1), 10, &[]).await.unwrap().is_empty());
    let again = store.claim_outbox(relay, at(1), 10, &[]).await.unwrap();
    assert_eq!(again.iter().map(|one| (one.message.id, one.attempt)).collect::<Vec<_>>(), [(message.id, 2)]);
    assert!(store.claim_outbox(relay, at(1), 10, &[message.id]).await.unwrap().is_empty(), "once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_from_four_processes_starts_its_tasks_once() {
    let cluster = Cluster::start().await;
    for round in 0..ROUNDS {
        let brought = cluster
            .all(|_, store| {
                let event = event(&round.to_string());
                async move {
                    let tasks: Vec<_> = (0..3).map(|_| task(T0)).collect();
                    let ids: Vec<_> = tasks.iter().map(|task| task.id).collect();
                    let accepted = store
                        .accept_event(IncomingEvent::new(event.clone(), tasks.into_iter().map(Arc::new).collect()))
                        .await
                        .unwrap();
                    (accepted, ids)
                }
            })
            .await;
        assert_eq!(brought.iter().filter(|(accepted, _)| *accepted == EventAcceptance::New).count(), 1, "{brought:?}");
        for (accepted, ids) in brought {
            for id in ids {
                let kept = cluster.one().task(id).await.unwrap().is_some();
                assert_eq!(kept, accepted == EventAcceptance::New);
            }
        }
    }
    assert_eq!(cluster.one().counts().await.unwrap().queued, 3 * ROUNDS as u64);
    assert_eq!(cluster.one().recent_events(1_000).await.unwrap().len(), ROUNDS);
}

/// Many concurrent events, some of them twice: all are answered, each is stored once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_events_are_stored_once() {
    let cluster = Cluster::start().await;
    let new_ones: Vec<usize> = cluster
        .all(|n, store| async move {
            let bring =
                (0..100).map(|k| {
                    let (store, event) = (Arc::clone(&store), event(&((k + n * 7) % 100 / 2).to_string()));
                    async move {
                        store.accept_event(IncomingEvent::new(event.clone(), vec![Arc::new(task(T0))])).await.unwrap()
                    }
                });
            join_all(bring).await.into_iter().filter(|accepted| *accepted == EventAcceptance::New).count()
        })
        .await;
    assert_eq!(new_ones.into_iter().sum::<usize>(), 50);
    assert_eq!(cluster.one().counts().await.unwrap().queued, 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_four_replays_one_is_accepted() {
    let cluster = Cluster::start().await;
    for _ in 0..ROUNDS {
        let lease = running(cluster.one(), WorkerId::generate()).await.lease;
        cluster.one().advance(give_up(lease, at(1)).into()).await.unwrap();
        let letter = cluster.one().dead_letters(true, None, 10).await.unwrap().items.remove(0).id;
        let replayed = cluster
            .all(move |_, store| async move {
                store.replay_dead_letter(letter, Some(Arc::new(task(at(2)))), at(2)).await.unwrap()
            })
            .await;
        assert_eq!(replayed.iter().filter(|done| **done).count(), 1, "{replayed:?}");
    }
    assert_eq!(cluster.one().counts().await.unwrap().queued, ROUNDS as u64);
}

/// A session is deleted only while nobody works in it; a concurrent claim gets all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_not_deleted_under_a_turn() {
    let cluster = Cluster::start().await;
    let [one, two] = [&cluster.stores[0], &cluster.stores[1]];
    let owner = worker(one, at(1)).await;
    for round in 0..ROUNDS {
        let session = SessionId::new(&agent(), &format!("thread-{round}"));
        accept(one, message(&session, T0)).await;
        let (claimed, deleted) = tokio::join!(take_session(one, owner, &session, at(1)), two.delete_session(&session));
        let (claimed, record) = claimed;
        assert!(!deleted.unwrap(), "its inbox held a task");
        let end = turn(claimed.lease, &record, at(1), &["a"]);
        let (ended, deleted) = tokio::join!(one.advance(end.into()), two.delete_session(&session));
        ended.unwrap();
        let left = two.messages(&session, 0, 10).await.unwrap().len();
        assert_eq!(left, usize::from(!deleted.unwrap()), "whole or gone");
    }
}

/// NUL is not allowed in a `text` column; it is returned from every place that stores outside text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nul_is_returned_from_every_column() {
    const ODD: &str = "a\0b\u{1}0";
    let cluster = Cluster::start().await;
    let store = cluster.one();

    let odd = Event { source: ODD.to_owned(), data: ODD.into(), ..event(ODD) };
    assert_eq!(store.accept_event(IncomingEvent::new(odd.clone(), Vec::new())).await.unwrap(), EventAcceptance::New);
    assert_eq!(
        store.accept_event(IncomingEvent::new(odd.clone(), Vec::new())).await.unwrap(),
        EventAcceptance::Duplicate
    );
    assert_eq!(store.recent_events(1).await.unwrap(), [odd]);

    store.put_schedules(vec![schedule(ODD)]).await.unwrap();
    assert_eq!(store.schedule(ODD).await.unwrap().unwrap().name, ODD);
    let fired = store.fire(vec![firing(ODD, 5, 0)], at(5)).await.unwrap().remove(0);
    assert!(matches!(fired, FiringResult::Fired(_)));
    assert_eq!(store.slots(ODD, 1).await.unwrap().len(), 1);
    assert_eq!(store.delete_schedules(&[ODD.to_owned()]).await.unwrap(), 1);

    let status = AgentStatus {
        agent: agent(),
        state: AgentState::Healthy,
        version: Some(ODD.into()),
        restarts: u32::MAX,
        reason: Some(ODD.to_owned()),
        since: T0,
    };
    store.put_agent_status(vec![status.clone()]).await.unwrap();
    assert_eq!(store.agent_statuses().await.unwrap(), [status]);

    let keyed = |fingerprint| keyed(task(T0), ODD, fingerprint);
    let first = keyed(1);
    let id = first.id;
    let answers = store.accept(vec![first, keyed(1), keyed(2)]).await.unwrap();
    assert_eq!(answers, [Ok(Acceptance::New), Ok(Acceptance::Duplicate(id)), Err(AcceptError::KeyReused(id))]);

    let lease = running(store, WorkerId::generate()).await.lease;
    let mut write = Advance::new(lease, at(1), Step::Wait);
    let body = JournalBody::PlanRejected { problems: vec![ODD.to_owned()] };
    write.journal.push(JournalEntry { scope: Scope::step(ODD), body, ..entry(1) });
    let asked = Clarification { question: ODD.to_owned(), scope: ODD.to_owned(), ..question(lease.task) };
    write.clarifications.push(asked.clone());
    let paid = ledger_row(lease.task, ODD);
    write.ledger.push(paid.clone());
    write.agent_version = Some(ODD.into());
    store.advance(write.into()).await.unwrap();
    assert_eq!(store.ledger(lease.task).await.unwrap(), [paid]);
    assert_eq!(store.task(lease.task).await.unwrap().unwrap().agent_version.as_deref(), Some(ODD));
    let said = Resolution::Answered { answer: ODD.to_owned(), by: ODD.to_owned(), at: at(2) };
    assert!(matches!(
        store.resolve(asked.id, said.clone()).await.unwrap(),
        ResolveResult::Accepted { wake: Some(_), .. }
    ));
    assert_eq!(store.clarification(asked.id).await.unwrap().unwrap().resolution, Some(said));
    let journal = store.journal(lease.task, 0, 10).await.unwrap();
    assert_eq!((journal[0].scope.as_str(), journal[1].scope.as_str()), ("step/a\0b\u{1}0", ODD));
}

/// NUL in the key of a session is returned in its record, messages and lists.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_may_have_nul_in_its_key() {
    let cluster = Cluster::start().await;
    let store = cluster.one();
    let session = SessionId::new(&agent(), "a\0b");
    let owner = worker(store, at(1)).await;
    accept(store, message(&session, T0)).await;
    assert_eq!(store.due_sessions(at(1), 10).await.unwrap(), std::slice::from_ref(&session));
    let (claimed, record) = take_session(store, owner, &session, at(1)).await;
    assert_eq!(record.id, session);
    assert_eq!(store.session(&session).await.unwrap().unwrap().open_tasks, 1);
    store.advance(turn(claimed.lease, &record, at(1), &["\0"]).into()).await.unwrap();
    assert_eq!(store.messages(&session, 0, 10).await.unwrap()[0].message.content(), "\0");
    let page = store.sessions(Some(&agent()), None, 10).await.unwrap();
    assert_eq!(page.items.iter().map(|view| (&view.record.id, view.open_tasks)).collect::<Vec<_>>(), [(&session, 0)]);
    assert!(store.sessions(None, Some(&session), 10).await.unwrap().items.is_empty());
    assert!(store.delete_session(&session).await.unwrap());
}

/// Concurrent pruning deletes old rows, keeps the others, and leaves the counters unchanged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_pruning_keeps_the_counters() {
    let cluster = Cluster::start().await;
    let client = cluster.schema.client().await;
    let rows = "INSERT INTO events (source, id, at, body) SELECT 's', n::text, n, '' FROM generate_series(1, 12000) n;
                INSERT INTO idempotency (key, task, fingerprint, created_at)
                    SELECT n::text, gen_random_uuid(), 0, n FROM generate_series(1, 12000) n";
    client.batch_execute(rows).await.unwrap();
    let lease = running(cluster.one(), WorkerId::generate()).await.lease;
    accept(cluster.one(), task(T0)).await;
    // A closed connection had counted two tasks in and two out.
    let gone = "INSERT INTO counters (pid, queued, running, waiting) VALUES (-1, 2, 0, 0), (-2, -2, 0, 0), (-3, 1, 0, -1), (-4, -1, 0, 1)";
    client.batch_execute(gone).await.unwrap();
    let before = cluster.one().counts().await.unwrap();
    let pruned = cluster
        .all(|_, store| async move {
            store.prune(agentry_store::Horizon::events(agentry_core::time::Timestamp(10_001))).await.unwrap()
        })
        .await;
    assert_eq!(pruned.into_iter().sum::<u64>(), 20_000);
    let count = async |table: &str| -> i64 {
        client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
    };
    assert_eq!((count("events").await, count("idempotency").await), (2_000, 2_000));
    assert_eq!(count("counters WHERE pid < 0").await, 0);
    assert_eq!(cluster.one().counts().await.unwrap(), before);
    assert_eq!(before, QueueCounts { queued: 1, running: 1, waiting: 0 });
    cluster.one().advance(finish(lease, at(1)).into()).await.unwrap();
}

/// Concurrent statuses, in any order, do not deadlock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_statuses_do_not_deadlock() {
    let cluster = Cluster::start().await;
    for round in 0..ROUNDS as u32 {
        cluster
            .all(|n, store| async move {
                let mut statuses: Vec<_> = (0..50)
                    .map(|k| AgentStatus {
                        agent: agentry_core::agent::AgentName::new(format!("agent-{k}").as_str()).unwrap(),
                        state: AgentState::Healthy,
                        version: None,
                        restarts: round,
                        reason: None,
                        since: T0,
                    })
                    .collect();
                statuses.rotate_left(n * 13);
                statuses.push(statuses[0].clone());
                store.put_agent_status(statuses).await.unwrap();
            })
            .await;
    }
    let kept = cluster.one().agent_statuses().await.unwrap();
    assert!(kept.len() == 50 && kept.iter().all(|status| status.restarts == ROUNDS as u32 - 1));
    let names = kept.into_iter().map(|status| status.agent).collect();
    cluster.one().remove_agent_statuses(names).await.unwrap();
    assert!(cluster.one().agent_statuses().await.unwrap().is_empty());
}

/// Every process looks for expired questions; each question ends once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_question_is_resolved_once_by_many() {
    let cluster = Cluster::start().await;
    let owner = WorkerId::generate();
    let lease = running(cluster.one(), owner).await.lease;
    ask(cluster.one(), lease, 3, Step::Wait).await;
    let resolved: Vec<usize> = cluster
        .all(|_, store| async move {
            let mut own = 0;
            for question in store.expired_clarifications(at(60), 10).await.unwrap() {
                let answered = store.resolve(question.id, Resolution::Expired { at: at(60) }).await.unwrap();
                own += usize::from(matches!(answered, ResolveResult::Accepted { .. }));
            }
            own
        })
        .await;
    assert_eq!(resolved.into_iter().sum::<usize>(), 3);
    assert!(claim(cluster.one(), owner, lease.task, at(60)).await.is_some());
}
