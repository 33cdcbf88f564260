//! Server-sent events, and resumption of streams.

use std::pin::Pin;
use std::time::Duration;

use agentry_core::journal::JournalEntry;
use agentry_core::task::TaskStatus;
use futures_util::stream::{Stream, StreamExt as _, unfold};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sse_stream::{Sse, SseStream};

use super::{ApiCall, Error};
use crate::tasks::TaskView;

/// The most consecutive attempts to resume a stream.
const MAX_RESUMES: u32 = 20;
/// Time between two attempts.
const RESUME_EVERY: Duration = Duration::from_millis(250);

/// One server-sent event.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerEvent {
    /// Number of a journal entry, if the stream can be resumed after it.
    pub id: Option<String>,
    /// Name of the event.
    pub event: String,
    /// Data: JSON, or text if it is not JSON.
    pub data: Value,
}

/// An event of a task's stream.
#[derive(Debug, Clone)]
pub enum TaskEvent {
    /// An entry of the journal.
    Entry(Box<JournalEntry>),
    /// The status changed.
    Status(TaskStatus),
    /// Partial output of a model.
    Delta(String),
    /// The partial output so far belongs to an answer that failed: the answer begins again.
    Restart,
    /// The task has ended.
    End(Box<TaskView>),
}

impl ServerEvent {
    fn of(sse: Sse) -> Option<Self> {
        let data = sse.data?;
        let data = serde_json::from_str(&data).unwrap_or(Value::String(data));
        Some(Self { id: sse.id, event: sse.event.unwrap_or_default(), data })
    }

    /// Returns what an event of a task's stream says; `None` when it is of a kind that this version does not know.
    #[must_use]
    pub fn of_task(&self) -> Option<TaskEvent> {
        fn read<T: DeserializeOwned>(data: &Value) -> Option<T> {
            serde_json::from_value(data.clone()).ok()
        }
        match self.event.as_str() {
            "status" => read(&self.data["status"]).map(TaskEvent::Status),
            "delta" => read(&self.data["text"]).map(TaskEvent::Delta),
            "restart" => Some(TaskEvent::Restart),
            "end" => read(&self.data).map(TaskEvent::End),
            _ => read(&self.data).map(TaskEvent::Entry),
        }
    }
}

/// An open stream of server-sent events.
pub struct EventStream {
    call: ApiCall<Self>,
    last_id: Option<String>,
    events: Pin<Box<dyn Stream<Item = Result<Sse, sse_stream::Error>> + Send>>,
}

impl ApiCall<EventStream> {
    /// Asks for what comes after the event with this id.
    pub fn after(self, id: impl std::fmt::Display) -> Self {
        self.header("last-event-id", id.to_string())
    }

    /// Opens the stream.
    ///
    /// # Errors
    /// Fails when the server is not there or refuses.
    pub async fn follow(self) -> Result<EventStream, Error> {
        let call = self.clone();
        let events = SseStream::from_bytes_stream(self.success().await?.bytes_stream());
        Ok(EventStream { call, last_id: None, events: Box::pin(events) })
    }
}

impl EventStream {
    /// Returns the next event; `None` at the end.
    ///
    /// # Errors
    /// Fails when the connection breaks.
    pub async fn next(&mut self) -> Result<Option<ServerEvent>, Error> {
        while let Some(event) = self.events.next().await {
            let broke = |error: sse_stream::Error| Error::Broken {
                what: "stream from",
                base: self.call.base().to_owned(),
                cause: error.to_string(),
            };
            if let Some(event) = ServerEvent::of(event.map_err(broke)?) {
                self.last_id = event.id.clone().or(self.last_id.take());
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Opens the stream again after the last event that was read.
    ///
    /// # Errors
    /// Fails when the server is not there or refuses.
    pub async fn resume(&mut self) -> Result<(), Error> {
        let call = self.call.clone();
        let resumed = match &self.last_id {
            Some(id) => call.after(id).follow().await?,
            None => call.follow().await?,
        };
        self.events = resumed.events;
        Ok(())
    }

    /// Returns the events up to and including `end`, over as many connections as it takes: each begins after the last event
    /// that was read, so that none is missing or there twice.
    pub fn to_the_end(self) -> impl Stream<Item = Result<ServerEvent, Error>> {
        unfold(Some(self), |stream| async move {
            let mut stream = stream?;
            let mut resumes = 0;
            loop {
                let broke = match stream.next().await {
                    Ok(Some(event)) => {
                        let rest = (event.event != "end").then_some(stream);
                        return Some((Ok(event), rest));
                    }
                    Ok(None) => None,
                    Err(error) => Some(error),
                };
                resumes += 1;
                if resumes > MAX_RESUMES {
                    return broke.map(|error| (Err(error), None));
                }
                tokio::time::sleep(RESUME_EVERY).await;
                match stream.resume().await {
                    Err(error) if error.refusal().is_some() => return Some((Err(error), None)),
                    _ => {}
                }
            }
        })
    }
}
