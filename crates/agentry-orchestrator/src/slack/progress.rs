//! Shows in Slack that a task is worked on, and what its model has written so far.
//!
//! The first sign comes after a moment, so that a quick answer is one post. The answer then takes the post's place. Only
//! its place matters to the outcome: the text is live, never stored, and left out when the pace does not allow it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentry_core::agent::ExecutionMode;
use agentry_core::slack::{Replaces, ReplyTo, SlackPlace, answer_mark};
use agentry_core::task::Task;
use agentry_slack::{MAX_TEXT, Post, SlackError, split, to_mrkdwn};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::lanes::{Lanes, channel_of};
use crate::context::{Context, lock};

/// How long a task runs before it is shown.
const FIRST: Duration = Duration::from_millis(1_000);
/// How often the post is looked at.
const EVERY: Duration = Duration::from_millis(1_500);
/// How long the end of a task waits for a call under way.
const FINISH: Duration = Duration::from_secs(2);
/// Text kept of an answer that is being written, in bytes: more than one post shows.
const MAX_SHOWN: usize = 4 * MAX_TEXT;

/// What a model has written so far.
#[derive(Default)]
pub(crate) struct Shown(Mutex<String>);

impl Shown {
    /// Another call begins: what was written before is not its answer.
    pub fn begin(&self) {
        lock(&self.0).clear();
    }

    /// A piece of the answer.
    pub fn push(&self, text: &str) {
        let mut shown = lock(&self.0);
        if shown.len() < MAX_SHOWN {
            shown.push_str(text);
        }
    }
}

/// The post that shows a running task. Dropped, it stays as it is.
pub(crate) struct Progress {
    shown: Arc<Shown>,
    done: CancellationToken,
    showing: JoinHandle<Replaces>,
}

impl Progress {
    /// Begins to show a task that came from a channel. `first`: nobody has shown it before.
    pub fn start(ctx: &Arc<Context>, task: &Task, first: bool) -> Option<Self> {
        let slack = Arc::clone(ctx.slack.as_ref()?);
        let place = task.reply_to.as_ref().and_then(ReplyTo::slack).filter(|place| place.response_url.is_none())?;
        let (shown, done) = (Arc::new(Shown::default()), CancellationToken::new());
        let mut post = Showing {
            slack,
            place: place.clone(),
            mark: format!("{}/0", answer_mark(task.id)),
            since: task.created_at,
            agent: task.agent.to_string(),
            // Plans and answers of several agents are no text for readers.
            shows_text: task.mode != ExecutionMode::Collaborative,
            shown: Arc::clone(&shown),
            post: if first { Replaces::Nothing } else { Replaces::Unknown },
            said: String::new(),
        };
        let until = done.clone();
        let showing = tokio::spawn(async move {
            post.run(&until).await;
            post.post
        });
        Some(Self { shown, done, showing })
    }

    /// Where a model's text goes.
    pub fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shown)
    }

    /// Ends; returns the post that the answer is to replace.
    pub async fn finish(mut self) -> Replaces {
        self.done.cancel();
        match tokio::time::timeout(FINISH, &mut self.showing).await {
            Ok(Ok(post)) => post,
            // A call under way may have made a post.
            _ => Replaces::Unknown,
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.showing.abort();
    }
}

struct Showing {
    slack: Arc<Lanes>,
    place: SlackPlace,
    mark: String,
    since: agentry_core::time::Timestamp,
    agent: String,
    shows_text: bool,
    shown: Arc<Shown>,
    post: Replaces,
    said: String,
}

impl Showing {
    async fn run(&mut self, done: &CancellationToken) {
        let mut wait = FIRST;
        loop {
            tokio::select! {
                () = done.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = EVERY;
            if let Err(error) = self.step().await {
                if let SlackError::RateLimited(wait) = &error {
                    self.slack.posts.hold(&channel_of(&self.place), Instant::now(), *wait);
                    self.slack.updates.hold(&self.place.team, Instant::now(), *wait);
                }
                tracing::debug!(%error, "progress is not shown in Slack");
            }
        }
    }

    /// One call at most.
    async fn step(&mut self) -> Result<(), SlackError> {
        let (now, api) = (Instant::now(), &self.slack.out.api);
        let SlackPlace { team, channel, thread, .. } = &self.place;
        let text = self.text();
        match &self.post {
            Replaces::Unknown => {
                let found = api.marked(team, channel, thread.as_deref(), self.since).await?;
                let post = found.into_iter().find(|post| post.mark == self.mark);
                self.post = post.map_or(Replaces::Nothing, |post| Replaces::Post { ts: post.ts });
            }
            Replaces::Nothing => {
                let key = channel_of(&self.place);
                // Answers go first.
                if !self.slack.is_idle(&key) || !self.slack.posts.try_reserve(&key, now) {
                    return Ok(());
                }
                match api.post(team, channel, thread.as_deref(), &self.as_post(&text)).await {
                    Ok(ts) => self.post = Replaces::Post { ts },
                    Err(error) => {
                        if matches!(error, SlackError::Unknown(_)) {
                            self.post = Replaces::Unknown;
                        }
                        return Err(error);
                    }
                }
                self.said = text;
            }
            Replaces::Post { ts } => {
                if text == self.said || !self.slack.updates.try_reserve(team, now) {
                    return Ok(());
                }
                api.update(team, channel, ts, &self.as_post(&text)).await?;
                self.said = text;
            }
        }
        Ok(())
    }

    fn as_post(&self, text: &str) -> Post {
        Post { text: text.to_owned(), blocks: None, mark: Some(self.mark.clone()) }
    }

    fn text(&self) -> String {
        let written = if self.shows_text { lock(&self.shown.0).clone() } else { String::new() };
        let mut parts = split(&to_mrkdwn(&written), MAX_TEXT - 8);
        match parts.is_empty() {
            true => format!(":hourglass_flowing_sand: _{} is working on it…_", self.agent),
            false => format!("{} …", parts.swap_remove(0)),
        }
    }
}
