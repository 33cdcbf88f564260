//! Says one message: looks first for what an earlier try may have left, waits for the channel's pace, honours 429.

use std::sync::atomic::Ordering;
use std::time::Duration;

use agentry_core::clarification::Clarification;
use agentry_core::id::TaskId;
use agentry_core::outbox::OutboxBody;
use agentry_core::retry::DELIVERY;
use agentry_core::slack::{Replaces, SlackContent, SlackMessage, SlackPlace};
use agentry_core::time::Timestamp;
use agentry_slack::{Marked, Post, SlackError, answer_parts, question_ended, question_post, reminder_post};
use agentry_store::{Delivery, PendingMessage};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::lanes::{Channel, Lanes, channel_of};
use crate::context::Context;
use crate::relay::delivery_place;
use crate::spans;

/// The longest wait between two tries while Slack is away.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long a message is tried: an outage of Slack is no fault of the message. Then it is a dead letter.
const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3_600);
/// Uses of a `response_url` that an answer takes at most (Slack: five; one is kept for who comes later).
const MAX_RESPONSES: usize = 4;

/// Why a message was not said.
enum Failed {
    /// This process stops: somebody else goes on.
    Stopping,
    Slack(SlackError),
}

impl From<SlackError> for Failed {
    fn from(error: SlackError) -> Self {
        Self::Slack(error)
    }
}

/// Says a message and returns what became of it.
pub(super) async fn deliver(ctx: &Context, slack: &Lanes, pending: &PendingMessage) -> Delivery {
    let span = spans::deliver(delivery_place(ctx, pending).as_ref(), "slack", pending);
    let delivery = attempt(ctx, slack, pending).instrument(span.clone()).await;
    spans::note_delivery(&span, &delivery);
    delivery
}

async fn attempt(ctx: &Context, slack: &Lanes, pending: &PendingMessage) -> Delivery {
    let (OutboxBody::Slack { message }, Some(task)) = (&pending.message.body, pending.message.task) else {
        return Delivery::Dead("not a message for Slack".to_owned());
    };
    let speaker = Speaker { ctx, slack, place: &message.place, channel: channel_of(&message.place) };
    let tried = pending.attempt > 1;
    if tried {
        slack.out.counters.retried.fetch_add(1, Ordering::Relaxed);
    }
    match speaker.say(message, task, tried).await {
        Ok(()) => {
            slack.out.counters.delivered.fetch_add(1, Ordering::Relaxed);
            Delivery::Sent
        }
        Err(Failed::Stopping) => Delivery::RetryAt(ctx.now()),
        Err(Failed::Slack(SlackError::Refused(reason))) => {
            tracing::warn!(%task, reason, "Slack does not take an answer; it is a dead letter");
            Delivery::Dead(reason)
        }
        Err(Failed::Slack(error)) => again(ctx, pending, &error),
    }
}

/// Tries again while Slack may come back.
fn again(ctx: &Context, pending: &PendingMessage, error: &SlackError) -> Delivery {
    let (now, message) = (ctx.now(), pending.message.id);
    if now.since(pending.message.created_at) > GIVE_UP_AFTER {
        return Delivery::Dead(format!("{} tries within a day failed; the last one: {error}", pending.attempt));
    }
    tracing::warn!(%message, attempt = pending.attempt, %error, "an answer did not reach Slack; it is tried again");
    let delay = DELIVERY.delay_before(pending.attempt).unwrap_or(LONGEST_WAIT);
    Delivery::RetryAt(now.after(delay.min(LONGEST_WAIT)))
}

/// Speaks in one place.
struct Speaker<'a> {
    ctx: &'a Context,
    slack: &'a Lanes,
    place: &'a SlackPlace,
    channel: Channel,
}

impl Speaker<'_> {
    async fn say(&self, message: &SlackMessage, task: TaskId, tried: bool) -> Result<(), Failed> {
        let mark = message.mark(task);
        match &message.content {
            SlackContent::Answer { markdown, replaces } => {
                let parts = answer_parts(markdown, &mark);
                if self.respond(&parts).await? {
                    return Ok(());
                }
                self.answer(parts, replaces, message.since, tried).await
            }
            SlackContent::Question { question } => self.ask(question_post(question), question, tried).await,
            SlackContent::Reminder { question } => self.ask(reminder_post(question), question, tried).await,
            SlackContent::Ended { question } => self.end(question).await,
        }
    }

    /// Answers a command where it was given. False: it cannot be answered there (any more).
    async fn respond(&self, parts: &[Post]) -> Result<bool, Failed> {
        let Some(to) = self.place.response_url.as_ref().filter(|url| self.ctx.now() < url.until) else {
            return Ok(false);
        };
        if parts.len() > MAX_RESPONSES {
            return Ok(false);
        }
        for (n, part) in parts.iter().enumerate() {
            let post = Post { mark: None, ..part.clone() };
            loop {
                self.paced().await?;
                // The first one takes the place of "is on it", and of itself when it is said again.
                match self.slack.out.api.respond(&to.url, &post, n == 0).await {
                    Ok(()) => break,
                    Err(SlackError::RateLimited(wait)) => self.hold(wait).await?,
                    // Used up or expired: there are other ways to who asked.
                    Err(SlackError::Refused(reason)) => {
                        tracing::debug!(reason, "a command is answered in a message instead");
                        return Ok(false);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(true)
    }

    async fn answer(&self, parts: Vec<Post>, replaces: &Replaces, since: Timestamp, tried: bool) -> Result<(), Failed> {
        let search = tried || *replaces == Replaces::Unknown;
        let found = if search { self.marked(since).await? } else { Vec::new() };
        for (n, part) in parts.iter().enumerate() {
            let known = found.iter().find(|post| Some(&post.mark) == part.mark.as_ref()).map(|post| post.ts.as_str());
            let known = known.or(match replaces {
                Replaces::Post { ts } if n == 0 => Some(ts),
                _ => None,
            });
            match known {
                // It may be the post that showed the answer while it was written.
                Some(ts) if n == 0 => match self.update(ts, part).await {
                    Err(Failed::Slack(SlackError::Refused(reason))) => {
                        tracing::debug!(reason, "the post that was to be replaced is gone");
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

    /// Asks, unless the question has ended or was asked before.
    async fn ask(&self, post: Post, question: &Clarification, tried: bool) -> Result<(), Failed> {
        let kept = self.ctx.store.clarification(question.id).await;
        let kept = kept.map_err(|error| SlackError::Away(format!("the store does not know the question: {error}")))?;
        if kept.is_none_or(|kept| kept.resolution.is_some()) {
            return Ok(());
        }
        let mark = post.mark.clone().unwrap_or_default();
        if tried && self.marked(question.asked_at).await?.iter().any(|found| found.mark == mark) {
            return Ok(());
        }
        let ts = self.post(&post).await?;
        self.slack.remember(&mark, &ts);
        if self.place.thread.is_none() {
            self.note_thread(question, ts).await;
        }
        Ok(())
    }

    /// Notes that a question which was asked in a channel began a thread; without that, replies there do not answer it.
    async fn note_thread(&self, question: &Clarification, ts: String) {
        let place = SlackPlace { thread: Some(ts), ..self.place.clone() };
        let Some(thread) = place.thread_key() else { return };
        if let Err(error) = self.ctx.store.asked_in(question.id, &thread).await {
            tracing::warn!(question = %question.id, %error, "replies to a question in Slack will not be taken for answers");
        }
    }

    /// Changes the posts of a question that has ended.
    async fn end(&self, question: &Clarification) -> Result<(), Failed> {
        let marks = [format!("question/{}", question.id), format!("reminder/{}", question.id)];
        let known = self.slack.recall(&marks[0]).filter(|_| self.slack.out.reminder.is_none());
        let posts: Vec<String> = match known {
            Some(ts) => vec![ts],
            None => {
                let found = self.marked(question.asked_at).await?;
                found.into_iter().filter(|post| marks.contains(&post.mark)).map(|post| post.ts).collect()
            }
        };
        let post = question_ended(question);
        for ts in posts {
            match self.update(&ts, &post).await {
                // Somebody has deleted it: there is nothing to change.
                Ok(()) | Err(Failed::Slack(SlackError::Refused(_))) => {}
                Err(failed) => return Err(failed),
            }
        }
        Ok(())
    }

    async fn post(&self, post: &Post) -> Result<String, Failed> {
        // Who used a command in a channel that the app is not in is told in a message of their own.
        let private = self.place.response_url.as_ref().and(self.place.user.as_deref());
        let channel = private.unwrap_or(&self.place.channel);
        loop {
            self.paced().await?;
            let posted = self.slack.out.api.post(&self.place.team, channel, self.place.thread.as_deref(), post).await;
            match posted {
                Err(SlackError::RateLimited(wait)) => self.hold(wait).await?,
                other => return Ok(other?),
            }
        }
    }

    async fn update(&self, ts: &str, post: &Post) -> Result<(), Failed> {
        loop {
            match self.slack.out.api.update(&self.place.team, &self.place.channel, ts, post).await {
                Err(SlackError::RateLimited(wait)) => self.hold(wait).await?,
                other => return Ok(other?),
            }
        }
    }

    /// Our posts in this place. Without the right to look there are none, and what was said may be said again.
    async fn marked(&self, since: Timestamp) -> Result<Vec<Marked>, Failed> {
        let SlackPlace { team, channel, thread, .. } = self.place;
        loop {
            match self.slack.out.api.marked(team, channel, thread.as_deref(), since).await {
                Err(SlackError::RateLimited(wait)) => self.hold(wait).await?,
                Err(SlackError::Refused(reason)) => {
                    tracing::warn!(reason, "cannot look for an earlier post; it may be made twice");
                    return Ok(Vec::new());
                }
                other => return Ok(other?),
            }
        }
    }

    /// Waits until this channel may say more.
    async fn paced(&self) -> Result<(), Failed> {
        let now = Instant::now();
        let at = self.slack.posts.reserve(&self.channel, now);
        if at <= now {
            return Ok(());
        }
        self.slack.out.counters.paced.fetch_add(1, Ordering::Relaxed);
        self.until(at).await
    }

    /// Waits as long as Slack said.
    async fn hold(&self, wait: Duration) -> Result<(), Failed> {
        let now = Instant::now();
        self.slack.posts.hold(&self.channel, now, wait);
        self.until(now + wait).await
    }

    async fn until(&self, at: Instant) -> Result<(), Failed> {
        tokio::select! {
            () = tokio::time::sleep_until(at) => Ok(()),
            () = self.ctx.stop.cancelled() => Err(Failed::Stopping),
        }
    }
}
