//! A method for each resource.

use std::fmt::Display;

use reqwest::Method;

use super::{ApiCall, Client, EventStream};
use crate::{
    ActivateReply, ActivateRequest, AgentDetail, AgentQuery, AgentView, AnswerRequest, AuditView, BackfillReply,
    BackfillRequest, BatchReply, BatchRequest, CallView, CallerView, CallsQuery, CancelReply, ClarificationView,
    CreatedKey, DeadLetterView, EditRequest, EventReceipt, EventRequest, KeyRequest, KeyView, List, LiveReply,
    LogChange, LogView, OpenItemQuery, Overview, ReadyReply, ReplayReply, ScheduleDetail, ScheduleDetailQuery,
    ScheduleRequest, ScheduleView, SessionDetail, SessionDetailQuery, SessionQuery, SessionView, SubmitQuery,
    SubmitReply, TailQuery, TaskDetail, TaskDetailQuery, TaskQuery, TaskReceipt, TaskRequest, TaskView, UsageQuery,
    UsageReply, ValidateReply, ValidateRequest, WorkerView,
};

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PATCH: Method = Method::PATCH;
const DELETE: Method = Method::DELETE;

/// Tasks.
impl Client {
    /// Submits a task.
    pub fn submit(&self, task: &TaskRequest<'_>) -> ApiCall<TaskReceipt> {
        self.call(POST, &["v1", "tasks"]).json(task)
    }

    /// Submits a task and waits up to so many seconds for its end.
    pub fn submit_and_wait(&self, task: &TaskRequest<'_>, seconds: f64) -> ApiCall<SubmitReply> {
        self.call(POST, &["v1", "tasks"]).query(&SubmitQuery { wait: Some(seconds) }).json(task)
    }

    /// Submits up to a thousand tasks.
    pub fn submit_batch(&self, batch: &BatchRequest<'_>) -> ApiCall<BatchReply<'static>> {
        self.call(POST, &["v1", "tasks", "batch"]).json(batch)
    }

    /// Lists tasks, newest first.
    pub fn tasks(&self, query: &TaskQuery) -> ApiCall<List<TaskView>> {
        self.call(GET, &["v1", "tasks"]).query(query)
    }

    /// Returns a task.
    pub fn task(&self, id: impl Display) -> ApiCall<TaskDetail> {
        self.call(GET, &["v1", "tasks", &id.to_string()])
    }

    /// Returns a task with its journal.
    pub fn task_with_journal(&self, id: impl Display) -> ApiCall<TaskDetail> {
        self.task(id).query(&TaskDetailQuery { journal: true })
    }

    /// Follows a task.
    pub fn task_events(&self, id: impl Display) -> ApiCall<EventStream> {
        self.call(GET, &["v1", "tasks", &id.to_string(), "events"])
    }

    /// Cancels a task.
    pub fn cancel(&self, id: impl Display) -> ApiCall<CancelReply> {
        self.call(POST, &["v1", "tasks", &id.to_string(), "cancel"])
    }
}

/// Agents and sessions.
impl Client {
    /// Lists agents.
    pub fn agents(&self, query: &AgentQuery) -> ApiCall<List<AgentView>> {
        self.call(GET, &["v1", "agents"]).query(query)
    }

    /// Returns an agent.
    pub fn agent(&self, name: &str) -> ApiCall<AgentDetail> {
        self.call(GET, &["v1", "agents", name])
    }

    /// Removes an agent from the deployment.
    pub fn remove_agent(&self, name: &str) -> ApiCall<()> {
        self.call(DELETE, &["v1", "agents", name])
    }

    /// Activates a version of an agent.
    pub fn activate(&self, name: &str, version: &ActivateRequest) -> ApiCall<ActivateReply> {
        self.call(POST, &["v1", "agents", name, "activate"]).json(version)
    }

    /// Validates an agent file.
    pub fn validate(&self, file: &ValidateRequest) -> ApiCall<ValidateReply> {
        self.call(POST, &["v1", "agents", "validate"]).json(file)
    }

    /// Lists sessions, most recently used first.
    pub fn sessions(&self, query: &SessionQuery) -> ApiCall<List<SessionView>> {
        self.call(GET, &["v1", "sessions"]).query(query)
    }

    /// Returns a session with its first messages.
    pub fn session(&self, id: impl Display) -> ApiCall<SessionDetail> {
        self.call(GET, &["v1", "sessions", &id.to_string()])
    }

    /// Returns a session with the messages after this number.
    pub fn session_after(&self, id: impl Display, after: u64) -> ApiCall<SessionDetail> {
        self.session(id).query(&SessionDetailQuery { after, limit: None })
    }

    /// Deletes a session.
    pub fn delete_session(&self, id: impl Display) -> ApiCall<()> {
        self.call(DELETE, &["v1", "sessions", &id.to_string()])
    }
}

/// Schedules.
impl Client {
    /// Lists schedules, by name.
    pub fn schedules(&self) -> ApiCall<List<ScheduleView>> {
        self.call(GET, &["v1", "schedules"])
    }

    /// Returns a schedule with `next` coming slots.
    pub fn schedule(&self, name: &str, next: Option<usize>) -> ApiCall<ScheduleDetail> {
        self.call(GET, &["v1", "schedules", name]).query(&ScheduleDetailQuery { next })
    }

    /// Creates a schedule.
    pub fn create_schedule(&self, schedule: &ScheduleRequest) -> ApiCall<ScheduleView> {
        self.call(POST, &["v1", "schedules"]).json(schedule)
    }

    /// Changes, pauses or resumes a schedule.
    pub fn change_schedule(&self, name: &str, change: &ScheduleRequest) -> ApiCall<ScheduleView> {
        self.call(PATCH, &["v1", "schedules", name]).json(change)
    }

    /// Deletes a schedule.
    pub fn delete_schedule(&self, name: &str) -> ApiCall<()> {
        self.call(DELETE, &["v1", "schedules", name])
    }

    /// Runs a schedule's task now.
    pub fn trigger(&self, name: &str) -> ApiCall<TaskReceipt> {
        self.call(POST, &["v1", "schedules", name, "trigger"])
    }

    /// Fires slots of the past.
    pub fn backfill(&self, name: &str, range: &BackfillRequest) -> ApiCall<BackfillReply> {
        self.call(POST, &["v1", "schedules", name, "backfill"]).json(range)
    }
}

/// Clarifications, dead letters and events.
impl Client {
    /// Lists questions, oldest first.
    pub fn clarifications(&self, query: &OpenItemQuery) -> ApiCall<List<ClarificationView>> {
        self.call(GET, &["v1", "clarifications"]).query(query)
    }

    /// Answers a question.
    pub fn answer(&self, id: impl Display, answer: &AnswerRequest) -> ApiCall<ClarificationView> {
        self.call(POST, &["v1", "clarifications", &id.to_string(), "answer"]).json(answer)
    }

    /// Lists dead letters, newest first.
    pub fn dead_letters(&self, query: &OpenItemQuery) -> ApiCall<List<DeadLetterView>> {
        self.call(GET, &["v1", "dead-letters"]).query(query)
    }

    /// Shows a dead letter.
    pub fn dead_letter(&self, id: impl Display) -> ApiCall<DeadLetterView> {
        self.call(GET, &["v1", "dead-letters", &id.to_string()])
    }

    /// Edits the payload of an open dead letter.
    pub fn edit_dead_letter(&self, id: impl Display, edit: &EditRequest) -> ApiCall<DeadLetterView> {
        self.call(PATCH, &["v1", "dead-letters", &id.to_string()]).json(edit)
    }

    /// Drops an open dead letter.
    pub fn drop_dead_letter(&self, id: impl Display) -> ApiCall<()> {
        self.call(DELETE, &["v1", "dead-letters", &id.to_string()])
    }

    /// Replays a dead letter.
    pub fn replay(&self, id: impl Display) -> ApiCall<ReplayReply> {
        self.call(POST, &["v1", "dead-letters", &id.to_string(), "replay"])
    }

    /// Publishes an event.
    pub fn publish(&self, event: &EventRequest) -> ApiCall<EventReceipt> {
        self.call(POST, &["v1", "events"]).json(event)
    }

    /// Follows events.
    pub fn events(&self, query: &TailQuery) -> ApiCall<EventStream> {
        self.call(GET, &["v1", "events"]).query(query)
    }
}

/// The deployment and its processes.
impl Client {
    /// Shows the deployment at a glance.
    pub fn overview(&self) -> ApiCall<Overview> {
        self.call(GET, &["v1", "overview"])
    }

    /// Sums what was spent.
    pub fn usage(&self, query: &UsageQuery) -> ApiCall<UsageReply> {
        self.call(GET, &["v1", "usage"]).query(query)
    }

    /// Lists provider calls.
    pub fn calls(&self, query: &CallsQuery) -> ApiCall<List<CallView>> {
        self.call(GET, &["v1", "usage", "calls"]).query(query)
    }

    /// Lists workers.
    pub fn workers(&self) -> ApiCall<List<WorkerView>> {
        self.call(GET, &["v1", "workers"])
    }

    /// Shows what the process logs.
    pub fn log(&self) -> ApiCall<LogView> {
        self.call(GET, &["v1", "log"])
    }

    /// Changes what the process logs.
    pub fn change_log(&self, change: &LogChange) -> ApiCall<LogView> {
        self.call(Method::PUT, &["v1", "log"]).json(change)
    }

    /// Says whether the process runs.
    pub fn live(&self) -> ApiCall<LiveReply> {
        self.call(GET, &["health", "live"])
    }

    /// Says whether the process can do its part; refused while it cannot.
    pub fn ready(&self) -> ApiCall<ReadyReply> {
        self.call(GET, &["health", "ready"])
    }

    /// Says who asks.
    pub fn me(&self) -> ApiCall<CallerView> {
        self.call(GET, &["v1", "me"])
    }

    /// Lists API keys.
    pub fn keys(&self) -> ApiCall<List<KeyView>> {
        self.call(GET, &["v1", "keys"])
    }

    /// Makes an API key.
    pub fn create_key(&self, key: &KeyRequest) -> ApiCall<CreatedKey> {
        self.call(POST, &["v1", "keys"]).json(key)
    }

    /// Rotates an API key.
    pub fn rotate_key(&self, id: impl Display) -> ApiCall<CreatedKey> {
        self.call(POST, &["v1", "keys", &id.to_string(), "rotate"])
    }

    /// Revokes an API key.
    pub fn revoke_key(&self, id: impl Display) -> ApiCall<()> {
        self.call(DELETE, &["v1", "keys", &id.to_string()])
    }

    /// Lists changes, newest first.
    pub fn audit(&self) -> ApiCall<List<AuditView>> {
        self.call(GET, &["v1", "audit"])
    }
}
