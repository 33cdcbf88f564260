//! Contract tests of questions to humans.

use std::sync::Arc;

use agentry_core::clarification::{Clarification, Resolution};
use agentry_core::id::WorkerId;
use agentry_core::journal::JournalBody;
use agentry_core::outbox::OutboxBody;
use agentry_core::slack::{ReplyTo, SlackAddress, question_ended};
use agentry_core::task::TaskStatus;
use agentry_core::time::Timestamp;

use super::advance::entry;
use super::build::{ask, at, claim, finish, question, running, worker};
use crate::{Advance, Delivery, ResolveResult, StateStore, Step};

fn answer(text: &str) -> Resolution {
    Resolution::Answered { answer: text.to_owned(), by: "ada".to_owned(), at: at(2) }
}

/// The task wakes with the last of its answers; a second answer to a question changes nothing.
pub async fn the_first_answer_wins_and_wakes(store: Arc<dyn StateStore>) {
    let worker = WorkerId::generate();
    let lease = running(&store, worker).await.lease;
    let asked = ask(&store, lease, 2, Step::Wait).await;
    let waiting = store.task(lease.task).await.unwrap().unwrap();
    assert_eq!((waiting.status, waiting.clarifications.len()), (TaskStatus::Waiting, 2));
    assert_eq!(store.clarifications(true, None, 10).await.unwrap().items, asked);
    assert_eq!(store.clarifications(true, Some(asked[0].id), 10).await.unwrap().items, asked[1..]);

    let first = store.resolve(asked[0].id, answer("this")).await.unwrap();
    assert!(matches!(first, ResolveResult::Accepted { wake: None, .. }), "{first:?}");
    let late = store.resolve(asked[0].id, answer("that")).await.unwrap();
    assert!(
        matches!(&late, ResolveResult::AlreadyResolved(kept) if kept.resolution == Some(answer("this"))),
        "{late:?}"
    );
    assert!(store.expired_clarifications(at(59), 10).await.unwrap().is_empty());
    assert_eq!(store.expired_clarifications(at(60), 10).await.unwrap(), asked[1..]);
    let last = store.resolve(asked[1].id, Resolution::Expired { at: at(60) }).await.unwrap();
    assert!(matches!(&last, ResolveResult::Accepted { wake: Some(woken), .. } if woken.task == lease.task), "{last:?}");

    let journal = store.journal(lease.task, 0, 10).await.unwrap();
    let first = JournalBody::Answered { clarification: asked[0].id, resolution: answer("this") };
    assert_eq!((journal[0].seq, journal[0].scope.as_str(), &journal[0].body), (1, "step/a", &first));
    let again = claim(&store, worker, lease.task, at(60)).await.unwrap();
    assert_eq!(again.used_us, 1_000_000, "waiting does not count");
}

/// An answer that comes while the task still runs is in the journal, and the wait ends at once.
pub async fn an_answer_before_the_wait_is_found(store: Arc<dyn StateStore>) {
    let lease = running(&store, WorkerId::generate()).await.lease;
    let asked = ask(&store, lease, 1, Step::Continue).await;
    let early = store.resolve(asked[0].id, answer("this")).await.unwrap();
    assert!(matches!(early, ResolveResult::Accepted { wake: None, .. }), "{early:?}");
    let mut wait = Advance::new(lease, at(3), Step::Wait);
    wait.journal.push(entry(1));
    assert!(store.advance(wait.into()).await.unwrap().requeued);
    assert_eq!(store.task(lease.task).await.unwrap().unwrap().status, TaskStatus::Queued);
    let journal = store.journal(lease.task, 0, 10).await.unwrap();
    assert_eq!(journal.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2]);
}

/// Claims and settles the whole outbox; returns its messages.
async fn sent(store: &Arc<dyn StateStore>, now: Timestamp) -> Vec<OutboxBody> {
    let claimer = worker(store, now).await;
    let claimed = store.claim_outbox(claimer, now, 10, &[]).await.unwrap();
    let results = claimed.iter().map(|pending| (pending.message.id, Delivery::Sent)).collect();
    store.settle_outbox(results, now).await.unwrap();
    claimed.into_iter().map(|pending| pending.message.body).collect()
}

/// Returns the address of a channel thread.
fn in_slack() -> ReplyTo {
    let (team, channel) = ("T1".to_owned(), "C1".to_owned());
    ReplyTo::Slack(SlackAddress { team, channel, thread: Some("1.2".to_owned()), user: None, response_url: None })
}

/// The end of a question is posted where it was asked, in the write that ends it: once, whatever ended it.
pub async fn the_end_of_a_question_is_posted_where_it_was_asked(store: Arc<dyn StateStore>) {
    let lease = running(&store, WorkerId::generate()).await.lease;
    let mut asked: Vec<_> = (0..3).map(|_| question(lease.task)).collect();
    for question in &mut asked[..2] {
        question.reply_to = Some(in_slack());
    }
    let mut write = Advance::new(lease, at(1), Step::Continue);
    write.clarifications.clone_from(&asked);
    store.advance(write.into()).await.unwrap();

    store.resolve(asked[0].id, answer("this")).await.unwrap();
    store.resolve(asked[0].id, answer("that")).await.unwrap();
    let told = |question: &Clarification, resolution: Resolution| {
        let ended = Clarification { resolution: Some(resolution), ..question.clone() };
        question_ended(&ended).map(|message| message.body)
    };
    assert_eq!(sent(&store, at(2)).await, Vec::from_iter(told(&asked[0], answer("this"))));
    store.advance(finish(lease, at(5)).into()).await.unwrap();
    assert_eq!(sent(&store, at(5)).await, Vec::from_iter(told(&asked[1], Resolution::Withdrawn { at: at(5) })));
}

/// Questions of a task that ended are withdrawn.
pub async fn the_end_withdraws_questions(store: Arc<dyn StateStore>) {
    let lease = running(&store, WorkerId::generate()).await.lease;
    let asked = ask(&store, lease, 1, Step::Continue).await;
    store.advance(finish(lease, at(5)).into()).await.unwrap();
    let kept = store.clarification(asked[0].id).await.unwrap().unwrap();
    assert_eq!(kept.resolution, Some(Resolution::Withdrawn { at: at(5) }));
    assert!(matches!(store.resolve(asked[0].id, answer("this")).await.unwrap(), ResolveResult::AlreadyResolved(_)));
}

/// Questions are found by the thread in which they were asked, known beforehand or recorded later; newest first, closed
/// ones too.
pub async fn questions_are_found_by_their_thread(store: Arc<dyn StateStore>) {
    let lease = running(&store, WorkerId::generate()).await.lease;
    let in_thread = || Clarification { reply_to: Some(in_slack()), ..question(lease.task) };
    let (first, second, elsewhere) = (in_thread(), in_thread(), question(lease.task));
    let mut write = Advance::new(lease, at(1), Step::Wait);
    write.clarifications = vec![first.clone(), second.clone(), elsewhere.clone()];
    store.advance(write.into()).await.unwrap();
    let ids = async |thread: &str, limit| {
        let found = store.clarifications_in_thread(thread, limit).await.unwrap();
        found.iter().map(|question| question.id).collect::<Vec<_>>()
    };
    store.resolve(first.id, answer("this")).await.unwrap();
    assert_eq!(ids("T1/C1/1.2", 10).await, [second.id, first.id]);
    assert_eq!(ids("T1/C1/1.2", 1).await, [second.id]);
    assert!(ids("T1/C1/7.7", 10).await.is_empty());
    store.set_clarification_thread(elsewhere.id, "T1/C1/7.7").await.unwrap();
    assert_eq!(ids("T1/C1/7.7", 10).await, [elsewhere.id]);
    let kept = store.clarifications_in_thread("T1/C1/1.2", 10).await.unwrap();
    assert!(kept[0].resolution.is_none() && kept[1].resolution.is_some());
}
