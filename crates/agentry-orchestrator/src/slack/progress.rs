//! Shows in Slack that a task is being worked on, and the text that its model has written so far.
//!
//! The post appears after a moment, so that a quick answer is one post, and the answer replaces it. Only its `ts`
//! matters to the outcome: the text is live, never stored, and skipped when the rate limit does not allow it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentry_core::agent::ExecutionMode;
use agentry_core::slack::{ReplacedPost, ReplyTo, SlackAddress, answer_mark};
use agentry_core::task::Task;
use agentry_slack::{MAX_TEXT, Post, SlackError, split, to_mrkdwn};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::queues::{ChannelQueues, channel_of};
use crate::context::{Context, lock};

/// Running time of a task before progress is preview.
const FIRST: Duration = Duration::from_millis(1_000);
/// Interval between updates of the post.
const EVERY: Duration = Duration::from_millis(1_500);
/// Maximum time that the end of a task waits for a pending call.
const FINISH: Duration = Duration::from_secs(2);
/// Maximum length of the preview, in bytes: more than one post shows.
const MAX_PREVIEW: usize = 4 * MAX_TEXT;

/// The text that a model has streamed so far.
#[derive(Default)]
pub(crate) struct StreamPreview(Mutex<String>);

impl StreamPreview {
    /// Clears the text when another call begins.
    pub fn begin(&self) {
        lock(&self.0).clear();
    }

    /// Appends a piece of the answer.
    pub fn push(&self, text: &str) {
        let mut preview = lock(&self.0);
        if preview.len() < MAX_PREVIEW {
            preview.push_str(text);
        }
    }
}

/// The post that shows a running task. When dropped, it stays as it is.
pub(crate) struct Progress {
    preview: Arc<StreamPreview>,
    done: CancellationToken,
    updates: JoinHandle<ReplacedPost>,
}

impl Progress {
    /// Starts to show a task that came from a channel. `earlier` is the post of an earlier owner.
    pub fn start(ctx: &Arc<Context>, task: &Task, earlier: ReplacedPost) -> Option<Self> {
        let slack = Arc::clone(ctx.slack.as_ref()?);
        let place = task.reply_to.as_ref().and_then(ReplyTo::slack).filter(|place| place.response_url.is_none())?;
        let (preview, done) = (Arc::new(StreamPreview::default()), CancellationToken::new());
        let mut post = ProgressPost {
            slack,
            place: place.clone(),
            mark: format!("{}/0", answer_mark(task.id)),
            since: task.created_at,
            agent: task.agent.to_string(),
            // Plans and the answers of several agents are not for readers.
            shows_text: task.mode != ExecutionMode::Collaborative,
            preview: Arc::clone(&preview),
            post: earlier,
            posted: String::new(),
        };
        let until = done.clone();
        let updates = tokio::spawn(async move {
            post.run(&until).await;
            post.post
        });
        Some(Self { preview, done, updates })
    }

    /// Returns the preview that receives the model's text.
    pub fn preview(&self) -> Arc<StreamPreview> {
        Arc::clone(&self.preview)
    }

    /// Ends the display; returns the post that the answer must replace.
    pub async fn finish(mut self) -> ReplacedPost {
        self.done.cancel();
        match tokio::time::timeout(FINISH, &mut self.updates).await {
            Ok(Ok(post)) => post,
            // A pending call may have made a post.
            _ => ReplacedPost::Unknown,
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.updates.abort();
    }
}

struct ProgressPost {
    slack: Arc<ChannelQueues>,
    place: SlackAddress,
    mark: String,
    since: agentry_core::time::Timestamp,
    agent: String,
    shows_text: bool,
    preview: Arc<StreamPreview>,
    post: ReplacedPost,
    posted: String,
}

impl ProgressPost {
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
                tracing::debug!(%error, "progress was not shown in Slack");
            }
        }
    }

    /// Makes one API call at most.
    async fn step(&mut self) -> Result<(), SlackError> {
        let (now, api) = (Instant::now(), &self.slack.out.api);
        let SlackAddress { team, channel, thread, .. } = &self.place;
        let text = self.text();
        match &self.post {
            ReplacedPost::Unknown => {
                let found = api.find_marked(team, channel, thread.as_deref(), self.since).await?;
                let post = found.into_iter().find(|post| post.mark == self.mark);
                self.post = post.map_or(ReplacedPost::Nothing, |post| ReplacedPost::Post { ts: post.ts });
            }
            ReplacedPost::Nothing => {
                let key = channel_of(&self.place);
                // Answers go first.
                if !self.slack.is_idle(&key) || !self.slack.posts.try_reserve(&key, now) {
                    return Ok(());
                }
                match api.post(team, channel, thread.as_deref(), &self.as_post(&text)).await {
                    Ok(ts) => self.post = ReplacedPost::Post { ts },
                    Err(error) => {
                        if matches!(error, SlackError::Unknown(_)) {
                            self.post = ReplacedPost::Unknown;
                        }
                        return Err(error);
                    }
                }
                self.posted = text;
            }
            ReplacedPost::Post { ts } => {
                if text == self.posted || !self.slack.updates.try_reserve(team, now) {
                    return Ok(());
                }
                api.update(team, channel, ts, &self.as_post(&text)).await?;
                self.posted = text;
            }
        }
        Ok(())
    }

    fn as_post(&self, text: &str) -> Post {
        Post { text: text.to_owned(), blocks: None, mark: Some(self.mark.clone()) }
    }

    fn text(&self) -> String {
        let written = if self.shows_text { lock(&self.preview.0).clone() } else { String::new() };
        let mut parts = split(&to_mrkdwn(&written), MAX_TEXT - 8);
        match parts.is_empty() {
            true => format!(":hourglass_flowing_sand: _{} is working on it…_", self.agent),
            false => format!("{} …", parts.swap_remove(0)),
        }
    }
}
