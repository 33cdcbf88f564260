//! `/v1/events`: events and their subscribers.

use agentry_core::id::TaskId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// An event to publish.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventRequest {
    /// Topic: words separated by dots, such as `customer.ticket.created`.
    pub topic: String,
    /// Data of the event, which is the input of the tasks that it starts.
    pub data: Value,
    /// Id, unique within the source: a repeated event is ignored. Default: a new id.
    pub id: Option<String>,
    /// Source of the event. Default: `api`.
    pub source: Option<String>,
    /// Type of the event, as in CloudEvents.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// The receipt of a stored event.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EventReceipt {
    /// Id of the event.
    pub id: String,
    /// Source of the event.
    pub source: String,
    /// True if this source and id were known; then nothing was changed.
    pub duplicate: bool,
    /// The tasks that it started.
    pub tasks: Vec<StartedTask>,
}

/// A task that an event started.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StartedTask {
    /// Id of the task.
    #[schema(value_type = String)]
    pub id: TaskId,
    /// Agent of the task.
    pub agent: String,
}

/// The query of the tail of events.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TailQuery {
    /// Only topics that match this AMQP pattern (`*` is one word, `#` any number).
    pub topic: Option<String>,
    /// Number of past events to begin with, 0 to 1,000. Default: 0.
    #[serde(default)]
    pub recent: usize,
}
