//! The parts of the Slack integration, which share one client of its Web API.

use std::sync::Arc;

use agentry_config::SlackSettings;
use agentry_orchestrator::SlackOut;
use agentry_server::{Dependency, DependencyMetric, DependencyState, SlackIngress};
use agentry_slack::{BotTokens, Counters, WebApi};

/// The parts of the Slack integration.
pub struct SlackParts {
    /// The ingress, if there is a signing secret.
    pub ingress: Option<SlackIngress>,
    /// The outgoing side, if there is a bot token.
    pub out: Option<SlackOut>,
    /// Slack as a dependency, if there is a bot token.
    pub dependency: Option<Dependency>,
}

impl SlackParts {
    /// Returns the configured parts.
    pub fn new(settings: &SlackSettings) -> Self {
        let tokens = BotTokens::new(settings.bot_tokens.clone());
        let speaks = !tokens.is_empty();
        let counters = Arc::new(Counters::default());
        let api = Arc::new(WebApi::new(&settings.api_url, tokens, Arc::clone(&counters)));
        let ingress = (!settings.signing_secrets.is_empty()).then(|| SlackIngress {
            secrets: settings.signing_secrets.clone(),
            routes: settings.routes.clone(),
            api: api.clone(),
        });
        let out = speaks.then(|| SlackOut {
            api: api.clone(),
            counters: Arc::clone(&counters),
            questions: settings.questions.clone(),
            reminder: settings.reminder,
        });
        let dependency = speaks.then(|| Dependency { name: "slack", probe: Arc::new(move || state_of(&counters)) });
        if ingress.is_some() && !speaks {
            tracing::warn!("a Slack signing secret is set without a bot token: requests of Slack cannot be answered");
        }
        Self { ingress, out, dependency }
    }
}

fn state_of(counters: &Counters) -> DependencyState {
    let counts = counters.counts();
    #[allow(clippy::cast_precision_loss, reason = "counters of one process stay far below 2^53")]
    let metric = |name, help, value: u64| DependencyMetric { name, help, is_counter: true, value: value as f64 };
    DependencyState {
        up: counts.up,
        detail: if counts.up { "the last call was answered" } else { "the last call was not answered" }.to_owned(),
        metrics: vec![
            metric("agentry_slack_calls", "Calls of Slack's Web API and of response URLs.", counts.calls),
            metric("agentry_slack_messages", "Messages that were said in Slack, whole.", counts.delivered),
            metric("agentry_slack_retries", "Messages that were tried again.", counts.retried),
            metric("agentry_slack_rate_limited", "Calls that Slack answered with 429.", counts.rate_limited),
            metric("agentry_slack_refused", "Calls that Slack refused for good.", counts.refused),
            metric("agentry_slack_failures", "Calls that were not answered.", counts.failed),
            metric("agentry_slack_lookups", "Looks for posts that an earlier try may have made.", counts.lookups),
            metric("agentry_slack_pacing_waits", "Waits for the pace of a channel.", counts.paced),
        ],
    }
}
