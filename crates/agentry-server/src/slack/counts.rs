//! Counters of requests from Slack, by kind and outcome.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// The route that Slack called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlackRequestKind {
    Event,
    Command,
    Interaction,
}

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestOutcome {
    /// Stored.
    Accepted,
    /// Stored by an earlier request.
    Duplicate,
    /// Of no interest: our own post, an edit, or a post of another bot.
    Ignored,
    /// No agent subscribes to it.
    Unheard,
    /// Without a valid signature of Slack.
    SignatureError,
    /// Not parseable.
    Malformed,
    /// Not stored because the store was full or unavailable; Slack retries.
    Refused,
}

impl SlackRequestKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Command => "command",
            Self::Interaction => "interaction",
        }
    }
}

impl RequestOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Unheard => "unheard",
            Self::SignatureError => "unverified",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SlackRequestLabels {
    kind: &'static str,
    outcome: &'static str,
}

/// The counters, one for each kind and outcome.
#[derive(Debug, Default)]
pub(crate) struct SlackCounts(Family<SlackRequestLabels, Counter>);

impl SlackCounts {
    /// Counts one request.
    pub(crate) fn note(&self, kind: SlackRequestKind, outcome: RequestOutcome) {
        self.0.get_or_create(&SlackRequestLabels { kind: kind.as_str(), outcome: outcome.as_str() }).inc();
    }

    /// Registers the counters.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Requests of Slack, by kind and by what became of them";
        registry.register("agentry_slack_requests", help, self.0.clone());
    }
}
