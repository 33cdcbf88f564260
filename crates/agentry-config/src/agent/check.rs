//! Raw values to an [`AgentSpec`]: ranges, unique names, and sections that do not fit the mode.

use std::collections::HashSet;
use std::sync::Arc;

use agentry_core::agent::{
    AgentName, AgentSpec, BudgetConfig, CollaborativeConfig, ContinuousConfig, ExecutionMode, LlmConfig, LlmTarget,
    SamplingParams,
};
use agentry_core::retry::RetryPolicy;
use agentry_core::time::Timestamp;
use agentry_core::topic::{TopicError, TopicPattern};
use serde_json::Value;

use super::leaf::{Choice, Seconds};
use super::raw;
use super::read::{At, Reader};
use super::{model, schedule, tool};
use crate::problem::Problem;
use crate::tables::Tables;
use crate::yaml::Span;

/// Default timeout of a model call, in milliseconds.
const DEFAULT_LLM_TIMEOUT_MS: u64 = 60_000;
/// Maximum number of retries of a task; more hide a broken agent and cost money.
const MAX_RETRIES: u32 = 100;
/// Maximum of every count in a file: messages, steps, agents or model calls.
const MAX_COUNT: u32 = 100_000;

/// Validates values and collects the problems.
pub(crate) struct Checker<'c, 's, 'a> {
    pub reader: &'c mut Reader<'s, 'a>,
    pub warnings: Vec<Problem>,
    pub now: Timestamp,
    /// What is known of models.
    pub tables: &'c Tables,
    /// Strings that many agents share.
    pub share: &'c mut HashSet<Arc<str>>,
    /// True if there were no problems before, so that an absent value is really absent.
    pub clean: bool,
}

/// Collaborators of a file, with their locations.
pub(crate) type Collaborators = Vec<(AgentName, At<Box<str>>)>;

impl Checker<'_, '_, '_> {
    pub fn wrong(&mut self, span: Span, message: impl Into<String>, label: impl Into<String>) {
        let problem = self.reader.source.problem(span, message).label(label);
        self.reader.report(problem);
    }

    pub fn wrong_with_help(&mut self, span: Span, message: impl Into<String>, label: &str, help: impl Into<String>) {
        let problem = self.reader.source.problem(span, message).label(label).help(help);
        self.reader.report(problem);
    }

    pub fn warn(&mut self, span: Span, message: impl Into<String>, label: impl Into<String>) {
        self.warnings.push(self.reader.source.problem(span, message).label(label).warning());
    }

    fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.share.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        self.share.insert(new.clone());
        new
    }

    fn range(&mut self, name: &str, value: Option<At<f64>>, low: f64, high: f64) -> Option<f64> {
        let At { value, span, .. } = value?;
        if !(low..=high).contains(&value) {
            self.wrong(span, format!("`{name}` is out of range"), format!("expected {low} to {high}"));
        }
        Some(value)
    }

    fn count(&mut self, name: &str, value: Option<At<u32>>, low: u32, high: u32) -> Option<u32> {
        let At { value, span, .. } = value?;
        if !(low..=high).contains(&value) {
            self.wrong(span, format!("`{name}` is out of range"), format!("expected {low} to {high}"));
        }
        Some(value)
    }

    /// Returns a duration that must not be zero, in milliseconds.
    pub fn some_time(&mut self, name: &str, value: Option<At<Seconds>>) -> Option<u64> {
        let At { value: Seconds(ms), span, .. } = value?;
        if ms == 0 {
            self.wrong(span, format!("`{name}` must be more than 0"), "expected seconds");
        }
        Some(ms)
    }

    pub fn web_address(&mut self, name: &str, value: &At<Box<str>>) {
        if value.is_unknown() {
            return self.unknown_address(name, value);
        }
        let rest = value.value.strip_prefix("http://").or_else(|| value.value.strip_prefix("https://"));
        let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
        // An unset variable is a warning; it may be set where the agent runs.
        let ok = host.is_some_and(|host| !host.is_empty() && !host.contains(char::is_whitespace));
        if !ok && !value.value.starts_with("${") {
            self.wrong(value.span, format!("`{name}` is not a web address"), "expected http://… or https://…");
        }
    }

    /// An address with variables is wrong if the text before the first one is.
    fn unknown_address(&mut self, name: &str, value: &At<Box<str>>) {
        let known = value.value.split("${").next().unwrap_or_default();
        let ok = ["http://", "https://"].iter().any(|scheme| scheme.starts_with(known) || known.starts_with(scheme));
        if !ok || known.contains(char::is_whitespace) {
            self.wrong(value.span, format!("`{name}` is not a web address"), "expected http://… or https://…");
        }
    }

    pub fn json_schema(&mut self, name: &str, value: Option<At<Value>>) -> Option<Box<Value>> {
        let At { value, span, .. } = value?;
        if !value.is_object() {
            self.wrong(span, format!("`{name}` must be a JSON Schema"), "expected a mapping such as {type: object, …}");
        }
        Some(Box::new(value))
    }
}

/// Returns the spec of a file, without its version, and its collaborators. Problems stay in the reader.
pub(crate) fn check(raw: raw::Agent, cx: &mut Checker<'_, '_, '_>) -> Option<(AgentSpec, Collaborators)> {
    let mode = raw.execution_mode.value.0;
    let name = name(&raw.name, cx);
    if !raw.execution_mode.is_unknown() {
        belongs(&raw, mode, cx);
    }
    if raw.system_prompt.value.trim().is_empty() {
        cx.wrong(raw.system_prompt.span, "`system_prompt` is empty", "expected what the model is told it is");
    }
    let subscriptions = subscriptions(raw.event_subscriptions.unwrap_or_default(), cx);
    let models = model::places(&raw.llm_config);
    let llm = llm(raw.llm_config, &models, cx);
    let tools = tool::tools(raw.tools.unwrap_or_default(), cx);
    let retry = retry(raw.retry_config, cx);
    let continuous = raw.continuous_config.map(|config| continuous(config.value, cx));
    let mut collaborators = Collaborators::new();
    let collaborative = raw.collaborative_config.map(|config| {
        let (config, named) = collaborative(config.value, &raw.name, cx);
        collaborators = named;
        config
    });
    let schedule = raw.schedule_config.and_then(|config| schedule::schedule(config, cx));
    let unpriced = raw.budget.as_ref().and_then(|budget| budget.unpriced.clone());
    // A variable that is not set may say `allow`.
    let may_allow = unpriced.as_ref().is_some_and(At::is_unknown);
    let budget = BudgetConfig {
        per_task: raw.budget.as_ref().and_then(|budget| budget.per_task_usd.map(|usd| usd.0)),
        per_day: raw.budget.as_ref().and_then(|budget| budget.per_day_usd.map(|usd| usd.0)),
        max_llm_calls: raw.budget.and_then(|budget| cx.count("max_llm_calls", budget.max_llm_calls, 1, MAX_COUNT)),
        unpriced: unpriced.map(|what| what.value.0).unwrap_or_default(),
    };
    if !may_allow {
        model::unpriced(&llm, &budget, &models, cx);
    }
    let output_schema = cx.json_schema("output_schema", raw.output_schema);
    let of = |wanted: ExecutionMode| mode == wanted;
    let spec = AgentSpec {
        name: name?,
        version: Box::default(),
        mode,
        agent_type: raw.agent_type,
        description: raw.description,
        enabled: raw.enabled.unwrap_or(true),
        tags: raw.tags.unwrap_or_default(),
        metadata: raw.metadata.map(Box::new),
        system_prompt: raw.system_prompt.value,
        instructions: raw.instructions,
        subscriptions,
        llm,
        tools,
        retry,
        continuous: of(ExecutionMode::Continuous).then(|| Box::new(continuous.unwrap_or_default())),
        collaborative: of(ExecutionMode::Collaborative).then(|| Box::new(collaborative.unwrap_or_default())),
        schedule: schedule.filter(|_| of(ExecutionMode::Scheduled)).map(Box::new),
        budget,
        output_schema,
    };
    Some((spec, if of(ExecutionMode::Collaborative) { collaborators } else { Collaborators::new() }))
}

fn name(name: &At<Box<str>>, cx: &mut Checker<'_, '_, '_>) -> Option<AgentName> {
    let checked = AgentName::new(&name.value).ok();
    if checked.is_none() && !name.is_unknown() {
        let shown: String = name.quoted().chars().take(80).collect();
        let label = "use up to 64 letters, digits, `-`, `_` and `.`, starting with a letter or digit";
        cx.wrong(name.span, format!("`{shown}` cannot be an agent's name"), label);
    }
    checked
}

/// Warns about sections of another mode, which are ignored.
fn belongs(raw: &raw::Agent, mode: ExecutionMode, cx: &mut Checker<'_, '_, '_>) {
    let sections = [
        ("continuous_config", raw.continuous_config.as_ref().map(|c| c.span), ExecutionMode::Continuous),
        ("collaborative_config", raw.collaborative_config.as_ref().map(|c| c.span), ExecutionMode::Collaborative),
        ("schedule_config", raw.schedule_config.as_ref().map(|c| c.span), ExecutionMode::Scheduled),
    ];
    for (key, span, of) in sections {
        if let Some(span) = span.filter(|_| of != mode) {
            cx.warn(span, format!("`{key}` is ignored"), format!("this agent is {mode}; only {of} agents use it"));
        }
    }
    if mode == ExecutionMode::Scheduled && raw.schedule_config.is_none() && cx.clean {
        cx.wrong_with_help(
            raw.execution_mode.span,
            "missing key `schedule_config`",
            "a scheduled agent needs a schedule",
            "add, for example, `schedule_config: {cron: \"0 9 * * *\", timezone: Europe/Berlin}`",
        );
    }
}

fn subscriptions(topics: Vec<At<Box<str>>>, cx: &mut Checker<'_, '_, '_>) -> Vec<TopicPattern> {
    let mut patterns = Vec::with_capacity(topics.len());
    for topic in topics.into_iter().filter(|topic| !topic.is_unknown()) {
        match TopicPattern::new(&topic.value) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => {
                let error = match error {
                    TopicError::EmptyWord(_) => TopicError::EmptyWord(topic.quoted()).to_string(),
                    TopicError::Wildcard(_) => TopicError::Wildcard(topic.quoted()).to_string(),
                    TopicError::TooLong(_) if topic.written.is_some() => "a topic has at most 255 bytes".to_owned(),
                    TopicError::TooLong(_) => error.to_string(),
                };
                cx.wrong(topic.span, format!("bad topic pattern: {error}"), "expected words apart by dots");
            }
        }
    }
    patterns
}

fn llm(raw: raw::Llm, places: &[model::Place], cx: &mut Checker<'_, '_, '_>) -> LlmConfig {
    let provider = raw.provider.0;
    let spans = model::spans(&raw);
    let params = SamplingParams {
        temperature: cx.range("temperature", raw.temperature, 0.0, 2.0),
        max_tokens: cx.count("max_tokens", raw.max_tokens, 1, u32::MAX),
        top_p: cx.range("top_p", raw.top_p, 0.0, 1.0),
        top_k: cx.count("top_k", raw.top_k, 1, u32::MAX),
        stop_sequences: raw.stop_sequences.unwrap_or_default(),
        frequency_penalty: cx.range("frequency_penalty", raw.frequency_penalty, -2.0, 2.0),
        presence_penalty: cx.range("presence_penalty", raw.presence_penalty, -2.0, 2.0),
        seed: raw.seed,
        reasoning: raw.reasoning.as_ref().map(|effort| effort.value.0),
        verbosity: raw.verbosity.as_ref().map(|verbosity| verbosity.value.0),
        cache: raw.cache.map(|keep| keep.0).unwrap_or_default(),
        service_tier: raw.service_tier,
        tool_choice: raw.tool_choice.as_ref().map(|choice| choice.value.0),
        parallel_tool_calls: raw.parallel_tool_calls,
        num_ctx: cx.count("num_ctx", raw.num_ctx, 1, u32::MAX),
        keep_alive: raw.keep_alive,
        strict_parameters: raw.strict_parameters.unwrap_or_default(),
        on_length: raw.on_length.map(|what| what.0).unwrap_or_default(),
    };
    let timeout_ms = cx.some_time("timeout", raw.timeout).unwrap_or(DEFAULT_LLM_TIMEOUT_MS);
    let target = target(Some(raw.provider), raw.model, raw.base_url, raw.region, provider, cx);
    if let Some(place) = places.first() {
        model::left_out(&target, &params, &spans, place, cx);
    }
    let fallback = raw.fallback.unwrap_or_default().into_iter();
    let fallback = fallback
        .map(|other| {
            beside(&target, self::target(other.provider, other.model, other.base_url, other.region, provider, cx))
        })
        .collect();
    LlmConfig { target, fallback, params, timeout_ms, response_format: raw.response_format.map(Box::new) }
}

/// Returns a fallback with the address and region of the first model where it names none and has the same provider:
/// prompts of a local deployment do not leave for the provider's public address.
fn beside(first: &LlmTarget, mut fallback: LlmTarget) -> LlmTarget {
    if fallback.provider == first.provider {
        fallback.base_url = fallback.base_url.or_else(|| first.base_url.clone());
        fallback.region = fallback.region.or_else(|| first.region.clone());
    }
    fallback
}

fn target(
    provider: Option<Choice<agentry_core::agent::ProviderKind>>,
    model: At<Box<str>>,
    base_url: Option<At<Box<str>>>,
    region: Option<Box<str>>,
    default: agentry_core::agent::ProviderKind,
    cx: &mut Checker<'_, '_, '_>,
) -> LlmTarget {
    if model.value.trim().is_empty() {
        cx.wrong(model.span, "`model` is empty", "expected a model id such as gpt-6-luna");
    }
    if let Some(url) = &base_url {
        cx.web_address("base_url", url);
    }
    let provider = provider.map_or(default, |choice| choice.0);
    model::retirement(provider, &model, cx);
    LlmTarget {
        provider,
        model: cx.shared(&model.value),
        base_url: base_url.map(|url| cx.shared(url.value.trim_end_matches('/'))),
        region: region.map(|region| cx.shared(&region)),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn retry(raw: Option<raw::Retry>, cx: &mut Checker<'_, '_, '_>) -> RetryPolicy {
    let default = RetryPolicy::default();
    let Some(raw) = raw else { return default };
    let multiplier = cx.range("backoff_multiplier", raw.backoff_multiplier, 1.0, 1_000.0);
    RetryPolicy {
        max_retries: cx.count("max_retries", raw.max_retries, 0, MAX_RETRIES).unwrap_or(default.max_retries),
        delay_ms: raw.retry_delay_seconds.map_or(default.delay_ms, |s| s.0),
        exponential: raw.exponential_backoff.unwrap_or(default.exponential),
        multiplier_percent: multiplier.map_or(default.multiplier_percent, |times| (times * 100.0).round() as u32),
        max_delay_ms: raw.max_retry_delay.map_or(default.max_delay_ms, |s| s.0),
    }
}

fn continuous(raw: raw::Continuous, cx: &mut Checker<'_, '_, '_>) -> ContinuousConfig {
    let default = ContinuousConfig::default();
    for (name, flag) in
        [("auto_save_on_shutdown", &raw.auto_save_on_shutdown), ("restore_on_startup", &raw.restore_on_startup)]
    {
        if let Some(At { value: false, span, .. }) = flag {
            cx.warn(*span, format!("`{name}: false` is ignored"), "sessions are always saved and restored");
        }
    }
    ContinuousConfig {
        idle_timeout_ms: cx
            .some_time("idle_timeout_seconds", raw.idle_timeout_seconds)
            .unwrap_or(default.idle_timeout_ms),
        save_interval_ms: cx
            .some_time("save_interval_seconds", raw.save_interval_seconds)
            .unwrap_or(default.save_interval_ms),
        max_history: cx
            .count("max_conversation_history", raw.max_conversation_history, 1, MAX_COUNT)
            .unwrap_or(default.max_history),
        pruning: raw.conversation_pruning_strategy.map_or(default.pruning, |choice| choice.0),
    }
}

fn collaborative(
    raw: raw::Collaborative,
    own: &At<Box<str>>,
    cx: &mut Checker<'_, '_, '_>,
) -> (CollaborativeConfig, Collaborators) {
    let default = CollaborativeConfig::default();
    let mut named = Collaborators::new();
    for item in raw.preferred_collaborators.unwrap_or_default() {
        if item.value == own.value {
            let message = format!("`{}` lists itself as a collaborator", item.quoted());
            cx.wrong(item.span, message, "expected another agent");
        } else if named.iter().any(|(name, _)| name.as_str() == &*item.value) {
            cx.wrong(item.span, format!("`{}` is listed twice", item.quoted()), "expected each collaborator once");
        } else if let Some(name) = name(&item, cx) {
            named.push((name, item));
        }
    }
    let (low, high) = (raw.min_collaborators.clone(), raw.max_collaborators.clone());
    let min = cx.count("min_collaborators", raw.min_collaborators, 1, MAX_COUNT);
    let max = cx.count("max_collaborators", raw.max_collaborators, 1, MAX_COUNT);
    let (least, most) = (min.unwrap_or(default.min_collaborators), max.unwrap_or(default.max_collaborators));
    // A bound with unresolved variables is absent here, which is no reason to compare with the default.
    let is_known = (low.is_some() && high.is_some()) || !cx.reader.has_unknown;
    if least > most
        && is_known
        && let Some(place) = low.as_ref().or(high.as_ref())
    {
        let shown = |given: Option<&At<u32>>, default: u32| given.map_or_else(|| default.to_string(), At::quoted);
        let (least, most) = (shown(low.as_ref(), least), shown(high.as_ref(), most));
        let label = format!("at least {least}, but at most {most}");
        cx.wrong(place.span, "`min_collaborators` is more than `max_collaborators`", label);
    }
    let planner = raw.planning_agent;
    let config = CollaborativeConfig {
        preferred_collaborators: named.iter().map(|(name, _)| name.clone()).collect(),
        planning_model: planner.as_ref().and_then(|p| p.model.as_deref()).map(|model| cx.shared(model)),
        planning_temperature: planner.and_then(|p| cx.range("temperature", p.temperature, 0.0, 2.0)),
        max_plan_steps: cx.count("max_plan_steps", raw.max_plan_steps, 1, 1_000).unwrap_or(default.max_plan_steps),
        min_collaborators: least,
        max_collaborators: most,
        planning_strategy: raw.planning_strategy.map_or(default.planning_strategy, |choice| choice.0),
        allow_clarification: raw.allow_human_clarification.unwrap_or(default.allow_clarification),
        clarification_timeout_ms: cx
            .some_time("clarification_timeout_seconds", raw.clarification_timeout_seconds)
            .unwrap_or(default.clarification_timeout_ms),
        clarification_default: raw.clarification_default,
        step_timeout_ms: cx.some_time("timeout_seconds", raw.timeout_seconds).unwrap_or(default.step_timeout_ms),
    };
    (config, named)
}
