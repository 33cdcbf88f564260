//! One queue for each channel with pending messages: messages are sent in order, and a channel that must wait delays no
//! other. Queued messages stay claimed; when the process dies or stops, others claim them.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentry_core::id::OutboxId;
use agentry_core::outbox::OutboxBody;
use agentry_core::slack::SlackAddress;
use agentry_store::{Delivery, PendingMessage};
use tokio_util::task::TaskTracker;

use super::SlackOut;
use super::deliver::deliver;
use super::rate_limit::RateLimit;
use crate::context::{Context, lock};

/// Maximum number of queued messages, over all queues; more wait in the store.
const MAX_WAITING: usize = 8_192;
/// Delay before the store's messages are claimed again while the queues are full, or this process cannot post.
const RETRY_DELAY: Duration = Duration::from_secs(5);
/// Interval between posts in a channel: Slack allows about one a second and short bursts. Slightly slower, because
/// clocks differ.
const POST_EVERY: Duration = Duration::from_millis(1_050);
const POST_BURST: u32 = 3;
/// Interval between progress updates in a workspace: Slack allows 50 a minute, and final answers need some.
const UPDATE_EVERY: Duration = Duration::from_millis(1_700);
const UPDATE_BURST: u32 = 10;
/// Maximum number of attempts to record the result of a delivery.
const SETTLE_TRIES: u32 = 5;
/// Delay between the attempts.
const SETTLE_WAIT: Duration = Duration::from_millis(500);
/// Maximum number of posts of questions whose `ts` is cached.
const MAX_POSTS: usize = 4_096;

pub(crate) type Channel = (String, String);

pub(super) fn channel_of(place: &SlackAddress) -> Channel {
    (place.team.clone(), place.channel.clone())
}

/// The queues of Slack delivery.
pub(crate) struct ChannelQueues {
    pub out: SlackOut,
    pub posts: RateLimit<Channel>,
    pub updates: RateLimit<String>,
    queues: Mutex<HashMap<Channel, VecDeque<PendingMessage>>>,
    waiting: AtomicUsize,
    /// Posts of questions by this process, by mark: saves a search.
    known: Mutex<HashMap<String, String>>,
    pub running: TaskTracker,
}

impl ChannelQueues {
    pub fn new(out: SlackOut) -> Self {
        Self {
            out,
            posts: RateLimit::new(POST_EVERY, POST_BURST),
            updates: RateLimit::new(UPDATE_EVERY, UPDATE_BURST),
            queues: Mutex::default(),
            waiting: AtomicUsize::new(0),
            known: Mutex::default(),
            running: TaskTracker::new(),
        }
    }

    /// Caches the post with this mark.
    pub fn remember(&self, mark: &str, ts: &str) {
        let mut known = lock(&self.known);
        if known.len() >= MAX_POSTS {
            known.clear();
        }
        known.insert(mark.to_owned(), ts.to_owned());
    }

    /// Returns the cached post with this mark.
    pub fn recall(&self, mark: &str) -> Option<String> {
        lock(&self.known).get(mark).cloned()
    }

    /// Adds a message to its queue. Returns whether the queue is new and must be run.
    fn push(&self, channel: &Channel, pending: PendingMessage) -> bool {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut queues = lock(&self.queues);
        let is_new = !queues.contains_key(channel);
        queues.entry(channel.clone()).or_default().push_back(pending);
        is_new
    }

    /// Removes the next message of a queue; `None` if the queue is empty and gone.
    fn next(&self, channel: &Channel) -> Option<PendingMessage> {
        let mut queues = lock(&self.queues);
        let next = queues.get_mut(channel).and_then(VecDeque::pop_front);
        match &next {
            Some(_) => drop(self.waiting.fetch_sub(1, Ordering::Relaxed)),
            None => drop(queues.remove(channel)),
        }
        next
    }

    /// Returns whether no message is queued for this channel.
    pub fn is_idle(&self, channel: &Channel) -> bool {
        !lock(&self.queues).contains_key(channel)
    }
}

/// Adds claimed messages to their queues. Returns the results of those that were refused.
pub(crate) fn enqueue(ctx: &Arc<Context>, batch: Vec<PendingMessage>) -> Vec<(OutboxId, Delivery)> {
    let mut refused = Vec::new();
    for pending in batch {
        let OutboxBody::Slack { message } = &pending.message.body else { continue };
        let later = (pending.message.id, Delivery::RetryAt(ctx.now().after(RETRY_DELAY)));
        let Some(slack) = &ctx.slack else {
            tracing::warn!(message = %pending.message.id, "a message for Slack is delayed: this process has no bot token");
            refused.push(later);
            continue;
        };
        if slack.waiting.load(Ordering::Relaxed) >= MAX_WAITING {
            refused.push(later);
            continue;
        }
        let channel = channel_of(&message.place);
        if slack.push(&channel, pending) {
            slack.running.spawn(run(Arc::clone(ctx), Arc::clone(slack), channel));
        }
    }
    refused
}

/// Delivers the messages of a queue until it is empty.
async fn run(ctx: Arc<Context>, slack: Arc<ChannelQueues>, channel: Channel) {
    while let Some(pending) = slack.next(&channel) {
        let delivery = deliver(&ctx, &slack, &pending).await;
        ctx.metrics.delivered(pending.message.body.kind(), &delivery);
        settle(&ctx, pending.message.id, delivery).await;
    }
}

/// Records the result of a delivery. If that fails for good, the message is delivered again, and its post is found by
/// its mark.
async fn settle(ctx: &Context, id: OutboxId, delivery: Delivery) {
    for left in (0..SETTLE_TRIES).rev() {
        match ctx.store.settle_outbox(vec![(id, delivery.clone())], ctx.now()).await {
            Ok(()) => break,
            Err(error) if left == 0 => tracing::warn!(%error, "settling a Slack message failed; it will be sent again"),
            Err(_) => tokio::time::sleep(SETTLE_WAIT).await,
        }
    }
    lock(&ctx.held_messages).remove(&id);
}
