//! Contract tests of the outbox and of dead letters.

use std::sync::Arc;

use agentry_core::id::{OutboxId, TaskId, WorkerId};
use agentry_core::outbox::{OutboxBody, OutboxMessage};
use serde_json::json;

use super::build::{T0, at, finish, give_up, running, task, worker};
use crate::{DeadLetterOrigin, DeadLetterState, Delivery, StateStore};

/// Returns a callback of a task.
pub fn callback(task: TaskId) -> OutboxMessage {
    let body = OutboxBody::Callback { url: "https://example.com".to_owned(), payload: json!({"a": 1}) };
    OutboxMessage { id: OutboxId::generate(), task: Some(task), created_at: T0, trace: None, body }
}

/// Ends a task with a callback.
pub(super) async fn leave(store: &Arc<dyn StateStore>) -> OutboxMessage {
    let lease = running(store, WorkerId::generate()).await.lease;
    let message = callback(lease.task);
    let mut end = finish(lease, at(1));
    end.outbox.push(message.clone());
    store.advance(end.into()).await.unwrap();
    message
}

/// One claimer gets a message; a failed attempt is due again later; a sent message is gone.
pub async fn messages_are_claimed_once_and_settled(store: Arc<dyn StateStore>) {
    let message = leave(&store).await;
    let (one, two) = (worker(&store, at(1)).await, worker(&store, at(1)).await);
    assert_eq!(store.next_outbox().await.unwrap(), Some(T0));
    assert_eq!(store.backlog().await.unwrap().outbox, 1);
    let claimed = store.claim_outbox(one, at(1), 10, &[]).await.unwrap();
    assert_eq!((&claimed[0].message, claimed[0].attempt), (&message, 1));
    assert!(store.claim_outbox(two, at(1), 10, &[]).await.unwrap().is_empty());
    assert!(store.claim_outbox(one, at(1), 10, &[message.id]).await.unwrap().is_empty(), "it has it in hand");
    store.settle_outbox(vec![(message.id, Delivery::RetryAt(at(2)))], at(1)).await.unwrap();
    assert!(store.claim_outbox(two, at(1), 10, &[]).await.unwrap().is_empty());
    assert_eq!(store.claim_outbox(two, at(2), 10, &[]).await.unwrap()[0].attempt, 2);
    store.settle_outbox(vec![(message.id, Delivery::Sent)], at(2)).await.unwrap();
    assert_eq!(store.next_outbox().await.unwrap(), None);
}

/// A message whose claim got lost on its way to the claimer is claimed again by the same worker and by no other.
pub async fn a_claim_whose_answer_was_lost_comes_again(store: Arc<dyn StateStore>) {
    let message = leave(&store).await;
    let (one, two) = (worker(&store, at(1)).await, worker(&store, at(1)).await);
    store.claim_outbox(one, at(1), 10, &[]).await.unwrap();
    assert!(store.claim_outbox(two, at(1), 10, &[]).await.unwrap().is_empty());
    let again = store.claim_outbox(one, at(1), 10, &[]).await.unwrap();
    assert_eq!((again[0].message.id, again[0].attempt), (message.id, 2));
}

/// A dead message can be edited and sent again with a fresh attempt count.
pub async fn a_dead_message_can_be_edited_and_sent_again(store: Arc<dyn StateStore>) {
    let message = leave(&store).await;
    let one = worker(&store, at(1)).await;
    store.claim_outbox(one, at(1), 10, &[]).await.unwrap();
    store.settle_outbox(vec![(message.id, Delivery::Dead("410 Gone".to_owned()))], at(1)).await.unwrap();
    let letter = store.dead_letters(true, None, 10).await.unwrap().items.remove(0);
    assert_eq!((letter.origin, Some(letter.task), letter.created_at), (DeadLetterOrigin::Outbox, message.task, at(1)));
    assert_eq!(letter.payload, json!({"url": "https://example.com", "payload": {"a": 1}}));
    let edited = json!({"url": "https://example.org", "payload": {"a": 2}});
    assert!(store.edit_dead_letter(letter.id, edited).await.unwrap());
    assert!(store.replay_dead_letter(letter.id, None, at(2)).await.unwrap());
    assert!(!store.replay_dead_letter(letter.id, None, at(2)).await.unwrap());
    let again = store.claim_outbox(one, at(2), 10, &[]).await.unwrap();
    assert_eq!((again[0].attempt, again[0].message.id), (1, message.id));
    assert!(matches!(&again[0].message.body, OutboxBody::Callback { url, .. } if url == "https://example.org"));
}

/// A dead task keeps its input; its replay is accepted once, marked as a replay.
pub async fn a_dead_task_can_be_replayed_once(store: Arc<dyn StateStore>) {
    let lease = running(&store, WorkerId::generate()).await.lease;
    store.advance(give_up(lease, at(1)).into()).await.unwrap();
    let letter = store.dead_letters(true, None, 10).await.unwrap().items.remove(0);
    assert_eq!((letter.origin, letter.task), (DeadLetterOrigin::Task, lease.task));
    assert_eq!((letter.payload, letter.reason.message.as_str()), (json!("hello"), "broken"));
    let replay = task(at(2));
    let id = replay.id;
    assert!(store.replay_dead_letter(letter.id, Some(Arc::new(replay)), at(2)).await.unwrap());
    assert!(!store.replay_dead_letter(letter.id, Some(Arc::new(task(at(2)))), at(2)).await.unwrap());
    assert!(!store.drop_dead_letter(letter.id).await.unwrap());
    assert_eq!(store.dead_letter(letter.id).await.unwrap().unwrap().state, DeadLetterState::Replayed);
    assert!(store.task(id).await.unwrap().is_some());
    assert_eq!(store.counts().await.unwrap().queued, 1);
}
