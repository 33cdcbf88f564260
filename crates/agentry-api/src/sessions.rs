//! `/v1/sessions`: sessions of continuous agents.

use agentry_core::session::{SessionId, SessionMessage, Summary};
use agentry_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A session of a continuous agent.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Session)]
pub struct SessionView {
    /// Id of the session: `agent:key`.
    #[schema(value_type = String)]
    pub id: SessionId,
    /// Agent of the session.
    pub agent: String,
    /// Key of the session within its agent.
    pub key: String,
    /// Number of stored messages.
    pub messages: u64,
    /// Number of completed turns.
    pub turns: u64,
    /// Number of tasks in its inbox that have not ended.
    pub open_tasks: u64,
    /// Summary of older messages, if the agent summarises.
    #[schema(value_type = Option<Object>)]
    pub summary: Option<Summary>,
    /// Time of creation.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Time of the end of the last turn.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A session with a page of its messages.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SessionDetail {
    /// The session.
    #[serde(flatten)]
    pub session: SessionView,
    /// Messages with a number above `after`, oldest first.
    #[schema(value_type = Vec<Object>)]
    pub history: Vec<SessionMessage>,
    /// Value of `after` for the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_after: Option<u64>,
}

/// The query of a list of sessions.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SessionQuery {
    /// Only sessions of this agent.
    pub agent: Option<String>,
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
    /// Rows of the page, 1 to 1,000. Default: 50.
    pub limit: Option<usize>,
}

/// The query of the messages of a session.
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
