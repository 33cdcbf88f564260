//! `/v1/events`: what happened, for whoever subscribes.

use agentry_core::id::TaskId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// An event to publish.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventRequest {
    /// Words apart by dots, such as `customer.ticket.created`.
    pub topic: String,
    /// What happened; the input of the tasks it starts.
    pub data: Value,
    /// Unique within its source: the same one is taken once. A new one when absent.
    pub id: Option<String>,
    /// Who says so; `api` when absent.
    pub source: Option<String>,
    /// What kind, as in CloudEvents.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// An event that is durable.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EventReceipt {
    /// Its id.
    pub id: String,
    /// Its source.
    pub source: String,
    /// Whether (source, id) was known: then nothing was done.
    pub duplicate: bool,
    /// The tasks it started.
    pub tasks: Vec<StartedTask>,
}

/// A task that an event started.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StartedTask {
    /// Its id.
    #[schema(value_type = String)]
    pub id: TaskId,
    /// Who does it.
    pub agent: String,
}

/// Which events to follow.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TailQuery {
    /// Only events on topics that match this AMQP pattern (`*` one word, `#` any number).
    pub topic: Option<String>,
    /// Begin with this many past events, at most 1,000; 0 when absent.
    #[serde(default)]
    pub recent: usize,
}
