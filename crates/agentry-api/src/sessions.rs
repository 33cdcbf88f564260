//! `/v1/sessions`: conversations of continuous agents.

use agentry_core::session::{SessionId, SessionMessage, Summary};
use agentry_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A session.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Session)]
pub struct SessionView {
    /// `agent:key`.
    #[schema(value_type = String)]
    pub id: SessionId,
    /// Its agent.
    pub agent: String,
    /// Its key within the agent.
    pub key: String,
    /// Messages kept.
    pub messages: u64,
    /// Turns completed.
    pub turns: u64,
    /// Tasks in its inbox that have not ended.
    pub open_tasks: u64,
    /// What was summarised away, when its agent summarises.
    #[schema(value_type = Option<Object>)]
    pub summary: Option<Summary>,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When a turn last ended.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A session with a page of its messages.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SessionDetail {
    /// The session.
    #[serde(flatten)]
    pub session: SessionView,
    /// Messages numbered above `after`, oldest first.
    #[schema(value_type = Vec<Object>)]
    pub history: Vec<SessionMessage>,
    /// Pass it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_after: Option<u64>,
}

/// Which sessions to list.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SessionQuery {
    /// Sessions of this agent.
    pub agent: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Rows, 1 to 1,000; 50 when absent.
    pub limit: Option<usize>,
}

/// Which messages of a session to show.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SessionDetailQuery {
    /// Messages numbered above this one; 0 when absent.
    #[serde(default)]
    pub after: u64,
    /// Messages, 1 to 1,000; 50 when absent.
    pub limit: Option<usize>,
}
