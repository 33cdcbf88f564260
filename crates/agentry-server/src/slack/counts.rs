//! Requests of Slack by door and by what became of them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Which route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Event,
    Command,
    Interaction,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is durable.
    Accepted,
    /// It was durable before.
    Duplicate,
    /// It is of no interest: our own post, an edit, another bot.
    Ignored,
    /// No agent listens.
    Unheard,
    /// Slack did not sign it.
    Unverified,
    /// It cannot be read.
    Malformed,
    /// The store could not take it; Slack sends it again.
    Refused,
}

impl Door {
    fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Command => "command",
            Self::Interaction => "interaction",
        }
    }
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Unheard => "unheard",
            Self::Unverified => "unverified",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRequest {
    kind: &'static str,
    outcome: &'static str,
}

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct SlackCounts(Family<OfRequest, Counter>);

impl SlackCounts {
    /// Counts one request.
    pub(crate) fn note(&self, door: Door, outcome: Outcome) {
        self.0.get_or_create(&OfRequest { kind: door.as_str(), outcome: outcome.as_str() }).inc();
    }

    /// Shows the counters in a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Requests of Slack, by kind and by what became of them";
        registry.register("agentry_slack_requests", help, self.0.clone());
    }
}
