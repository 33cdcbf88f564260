//! Delivers one message: searches for the post of an earlier attempt, waits for the channel's rate limit, honours 429.

use std::sync::atomic::Ordering;
use std::time::Duration;

use agentry_core::clarification::Clarification;
use agentry_core::id::TaskId;
use agentry_core::outbox::OutboxBody;
use agentry_core::retry::DELIVERY;
use agentry_core::slack::{ReplacedPost, SlackAddress, SlackContent, SlackMessage};
use agentry_core::time::Timestamp;
use agentry_slack::{
    MarkedPost, Post, ResponseMode, SlackError, answer_parts, question_post, reminder_post, resolved_question_post,
};
use agentry_store::{Delivery, PendingMessage};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::queues::{Channel, ChannelQueues, channel_of};
use crate::context::Context;
use crate::relay::delivery_span;
use crate::spans;

/// Maximum delay between two attempts while Slack is unavailable.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Time after which an undelivered message becomes a dead letter: an outage of Slack is no fault of the message.
const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3_600);
/// Maximum number of uses of a `response_url` by one answer (Slack allows five; one is left for later errors).
const MAX_RESPONSES: usize = 4;

/// The reason why a message was not sent.
enum SendError {
    /// This process stops: another one continues.
    Stopping,
    Slack(SlackError),
}

impl From<SlackError> for SendError {
    fn from(error: SlackError) -> Self {
        Self::Slack(error)
    }
}

pub(super) async fn deliver(ctx: &Context, slack: &ChannelQueues, pending: &PendingMessage) -> Delivery {
    let span = spans::deliver(delivery_span(ctx, pending).as_ref(), "slack", pending);
    let delivery = attempt(ctx, slack, pending).instrument(span.clone()).await;
    spans::note_delivery(&span, &delivery);
    delivery
}

async fn attempt(ctx: &Context, slack: &ChannelQueues, pending: &PendingMessage) -> Delivery {
    let (OutboxBody::Slack { message }, Some(task)) = (&pending.message.body, pending.message.task) else {
        return Delivery::Dead("not a message for Slack".to_owned());
    };
    let sender = Sender { ctx, slack, place: &message.place, channel: channel_of(&message.place) };
    let is_retry = pending.attempt > 1;
    if is_retry {
        slack.out.counters.retried.fetch_add(1, Ordering::Relaxed);
    }
    match sender.send(message, task, is_retry).await {
        Ok(()) => {
            slack.out.counters.delivered.fetch_add(1, Ordering::Relaxed);
            Delivery::Sent
        }
        Err(SendError::Stopping) => Delivery::RetryAt(ctx.now()),
        Err(SendError::Slack(SlackError::Refused(reason))) => {
            tracing::warn!(%task, reason, "Slack refused a message; it became a dead letter");
            Delivery::Dead(reason)
        }
        Err(SendError::Slack(error)) => retry(ctx, pending, &error),
    }
}

/// Schedules a retry while Slack may recover.
fn retry(ctx: &Context, pending: &PendingMessage, error: &SlackError) -> Delivery {
    let (now, message) = (ctx.now(), pending.message.id);
    if now.since(pending.message.created_at) > GIVE_UP_AFTER {
        return Delivery::Dead(format!("{} tries within a day failed; the last one: {error}", pending.attempt));
    }
    tracing::warn!(%message, attempt = pending.attempt, %error, "delivering a message to Slack failed; retrying");
    let delay = DELIVERY.delay_before(pending.attempt).unwrap_or(LONGEST_WAIT);
    Delivery::RetryAt(now.after(delay.min(LONGEST_WAIT)))
}

/// Sends to one address.
struct Sender<'a> {
    ctx: &'a Context,
    slack: &'a ChannelQueues,
    place: &'a SlackAddress,
    channel: Channel,
}

impl Sender<'_> {
    async fn send(&self, message: &SlackMessage, task: TaskId, is_retry: bool) -> Result<(), SendError> {
        let mark = message.mark(task);
        match &message.content {
            SlackContent::Answer { markdown, replaces } => {
                let parts = answer_parts(markdown, &mark);
                if self.respond(&parts).await? {
                    return Ok(());
                }
                self.answer(parts, replaces, message.since, is_retry).await
            }
            SlackContent::Question { question } => self.ask(question_post(question), question, is_retry).await,
            SlackContent::Reminder { question } => self.ask(reminder_post(question), question, is_retry).await,
            SlackContent::Ended { question } => self.end(question).await,
        }
    }

    /// Answers a slash command through its `response_url`. Returns false if that is not possible (any more).
    async fn respond(&self, parts: &[Post]) -> Result<bool, SendError> {
        let Some(to) = self.place.response_url.as_ref().filter(|url| self.ctx.now() < url.until) else {
            return Ok(false);
        };
        if parts.len() > MAX_RESPONSES {
            return Ok(false);
        }
        for (n, part) in parts.iter().enumerate() {
            let post = Post { mark: None, ..part.clone() };
            loop {
                self.wait_for_rate().await?;
                // The first post replaces the acknowledgement, and itself when it is repeated.
                let mode = if n == 0 { ResponseMode::ReplaceOriginal } else { ResponseMode::New };
                match self.slack.out.api.respond(&to.url, &post, mode).await {
                    Ok(()) => break,
                    Err(SlackError::RateLimited(wait)) => self.hold(wait).await?,
                    // The URL is used up or expired; the answer is posted as a message.
                    Err(SlackError::Refused(reason)) => {
                        tracing::debug!(reason, "the response_url was refused; answering in a message instead");
                        return Ok(false);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(true)
    }

    async fn answer(
        &self,
        parts: Vec<Post>,
        replaces: &ReplacedPost,
        since: Timestamp,
        is_retry: bool,
    ) -> Result<(), SendError> {
        let search = is_retry || *replaces == ReplacedPost::Unknown;
        let found = if search { self.find_marked(since).await? } else { Vec::new() };
        for (n, part) in parts.iter().enumerate() {
            let known = found.iter().find(|post| Some(&post.mark) == part.mark.as_ref()).map(|post| post.ts.as_str());
            let known = known.or(match replaces {
                ReplacedPost::Post { ts } if n == 0 => Some(ts),
                _ => None,
            });
            match known {
                // The post may be the one that showed the answer while it was written.
                Some(ts) if n == 0 => match self.update(ts, part).await {
                    Err(SendError::Slack(SlackError::Refused(reason))) => {
                        tracing::debug!(reason, "the post to replace is gone; posting the answer anew");
                        self.post(part).await?;
                    }
                    other => other?,
                },
                Some(_) => {}
                None => drop(self.post(part).await?),
            }
        }
        Ok(())
    }

    /// Asks a question, unless it has ended or was asked before.
    async fn ask(&self, post: Post, question: &Clarification, is_retry: bool) -> Result<(), SendError> {
        let kept = self.ctx.store.clarification(question.id).await;
        let kept =
            kept.map_err(|error| SlackError::Unreachable(format!("the store does not know the question: {error}")))?;
        if kept.is_none_or(|kept| kept.resolution.is_some()) {
            return Ok(());
        }
        let mark = post.mark.clone().unwrap_or_default();
        if is_retry && self.find_marked(question.asked_at).await?.iter().any(|found| found.mark == mark) {
            return Ok(());
        }
        let ts = self.post(&post).await?;
        self.slack.remember(&mark, &ts);
        if self.place.thread.is_none() {
            self.note_thread(question, ts).await;
        }
        Ok(())
    }

    /// Records the thread of a question that was asked in a channel; otherwise replies there do not answer it.
    async fn note_thread(&self, question: &Clarification, ts: String) {
        let place = SlackAddress { thread: Some(ts), ..self.place.clone() };
        let Some(thread) = place.thread_key() else { return };
        if let Err(error) = self.ctx.store.set_clarification_thread(question.id, &thread).await {
            tracing::warn!(question = %question.id, %error, "recording the thread of a question failed: replies in Slack will not answer it");
        }
    }

    /// Updates the posts of a question that has ended.
    async fn end(&self, question: &Clarification) -> Result<(), SendError> {
        let marks = [format!("question/{}", question.id), format!("reminder/{}", question.id)];
        let known = self.slack.recall(&marks[0]).filter(|_| self.slack.out.reminder.is_none());
        let posts: Vec<String> = match known {
            Some(ts) => vec![ts],
            None => {
                let found = self.find_marked(question.asked_at).await?;
                found.into_iter().filter(|post| marks.contains(&post.mark)).map(|post| post.ts).collect()
            }
        };
        let post = resolved_question_post(question);
        for ts in posts {
            match self.update(&ts, &post).await {
                // The post was deleted: there is nothing to change.
                Ok(()) | Err(SendError::Slack(SlackError::Refused(_))) => {}
                Err(failed) => return Err(failed),
            }
        }
        Ok(())
    }

    async fn post(&self, post: &Post) -> Result<String, SendError> {
        // A slash command in a channel that the app is not a member of is answered in a direct message.
        let private = self.place.response_url.as_ref().and(self.place.user.as_deref());
        let channel = private.unwrap_or(&self.place.channel);
        loop {
            self.wait_for_rate().await?;
            let posted = self.slack.out.api.post(&self.place.team, channel, self.place.thread.as_deref(), post).await;
            match posted {
                Err(SlackError::RateLimited(wait)) => self.hold(wait).await?,
                other => return Ok(other?),
            }
        }
    }

    async fn update(&self, ts: &str, post: &Post) -> Result<(), SendError> {
        loop {
            match self.slack.out.api.update(&self.place.team, &self.place.channel, ts, post).await {
                Err(SlackError::RateLimited(wait)) => self.hold(wait).await?,
                other => return Ok(other?),
            }
        }
    }

    /// Returns our posts at this address. Without permission to search there are none, and a message may be posted
    /// twice.
    async fn find_marked(&self, since: Timestamp) -> Result<Vec<MarkedPost>, SendError> {
        let SlackAddress { team, channel, thread, .. } = self.place;
        loop {
            match self.slack.out.api.find_marked(team, channel, thread.as_deref(), since).await {
                Err(SlackError::RateLimited(wait)) => self.hold(wait).await?,
                Err(SlackError::Refused(reason)) => {
                    tracing::warn!(reason, "searching for an earlier post failed; the message may be posted twice");
                    return Ok(Vec::new());
                }
                other => return Ok(other?),
            }
        }
    }

    /// Waits for the channel's rate limit.
    async fn wait_for_rate(&self) -> Result<(), SendError> {
        let now = Instant::now();
        let at = self.slack.posts.reserve(&self.channel, now);
        if at <= now {
            return Ok(());
        }
        self.slack.out.counters.paced.fetch_add(1, Ordering::Relaxed);
        self.until(at).await
    }

    /// Waits as long as Slack demands.
    async fn hold(&self, wait: Duration) -> Result<(), SendError> {
        let now = Instant::now();
        self.slack.posts.hold(&self.channel, now, wait);
        self.until(now + wait).await
    }

    async fn until(&self, at: Instant) -> Result<(), SendError> {
        tokio::select! {
            () = tokio::time::sleep_until(at) => Ok(()),
            () = self.ctx.stop.cancelled() => Err(SendError::Stopping),
        }
    }
}
