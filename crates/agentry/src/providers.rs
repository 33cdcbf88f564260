//! Model providers: from settings to clients and limits, and what `/metrics` and `/health/ready` show of them.

use std::sync::Arc;

use agentry_config::{Engine, FleetHandle, ModelLimit, Settings};
use agentry_core::agent::LlmTarget;
use agentry_llm::{
    AwsEnvironment, Buckets, Endpoints, Limit, LimitRule, MemoryBuckets, Providers, RedisBuckets, Timeouts,
};
use agentry_server::{Dependency, DependencyState};
use secrecy::ExposeSecret;

use crate::failure::Failure;

/// The providers of a process. With `upstream` all their calls go there, each by its own protocol.
pub fn of(settings: &Settings, upstream: Option<String>) -> Result<Providers, Failure> {
    let models = crate::settings::tables(settings)?.models;
    let providers = Providers::new(&endpoints(settings, upstream)).with_models(models);
    let limits = &settings.providers.limits;
    if limits.is_empty() {
        return Ok(providers);
    }
    Ok(providers.with_limits(limits.iter().map(rule).collect(), buckets(settings)?))
}

fn endpoints(settings: &Settings, upstream: Option<String>) -> Endpoints {
    let of = settings.providers.clone();
    Endpoints {
        openai_api_key: settings.openai_api_key.clone(),
        openai_base_url: settings.openai_base_url.clone(),
        anthropic_api_key: of.anthropic_api_key,
        anthropic_base_url: of.anthropic_base_url,
        ollama_api_key: of.ollama_api_key,
        ollama_base_url: of.ollama_base_url,
        bedrock_api_key: of.bedrock_api_key,
        bedrock_base_url: of.bedrock_base_url,
        aws_region: of.aws_region,
        aws: AwsEnvironment::of_process(),
        override_base_url: upstream,
        timeouts: Timeouts {
            connect: of.connect_timeout,
            first_token: of.first_token_timeout,
            between_tokens: of.token_timeout,
        },
    }
}

fn rule(limit: &ModelLimit) -> LimitRule {
    let of = Limit {
        requests_per_minute: limit.requests_per_minute,
        tokens_per_minute: limit.tokens_per_minute,
        concurrent: limit.concurrent,
    };
    LimitRule { provider: limit.provider, model: limit.model.clone(), limit: of }
}

/// Returns the counter of limits: in Redis if configured, so that all processes share them.
fn buckets(settings: &Settings) -> Result<Arc<dyn Buckets>, Failure> {
    let redis = settings.redis_url.as_ref().filter(|_| settings.engine == Engine::Cluster);
    let Some(url) = redis else {
        if settings.engine == Engine::Cluster {
            tracing::warn!("llm.limits without Redis: each process keeps them by itself");
        }
        return Ok(Arc::new(MemoryBuckets::default()));
    };
    let buckets = RedisBuckets::new(url.expose_secret(), &settings.postgres_schema);
    let buckets = buckets.map_err(|error| Failure::usage(error.to_string()).help("correct AGENTRY_REDIS_URL"))?;
    Ok(Arc::new(buckets))
}

/// Returns the providers as a dependency.
pub fn dependency(providers: Arc<Providers>) -> Dependency {
    let probe = move || {
        let cut_off = providers.open_breakers();
        let detail = match cut_off.as_slice() {
            [] => "no model is cut off".to_owned(),
            models => format!("failed so often that they are left alone for now: {}", models.join(", ")),
        };
        DependencyState { up: cut_off.is_empty(), detail, ..DependencyState::default() }
    };
    Dependency { name: "providers", probe: Arc::new(probe) }
}

/// Connects, in the background, to where the models of the fleet are.
pub fn warm(providers: &Arc<Providers>, fleet: &FleetHandle) {
    let (providers, targets) = (Arc::clone(providers), targets(fleet));
    tokio::spawn(async move { providers.warm(targets).await });
}

fn targets(fleet: &FleetHandle) -> Vec<LlmTarget> {
    let fleet = fleet.current();
    let specs = fleet.iter().filter_map(|(_, entry)| entry.spec.as_ref());
    specs.flat_map(|spec| std::iter::once(&spec.llm.target).chain(&spec.llm.fallback)).cloned().collect()
}
