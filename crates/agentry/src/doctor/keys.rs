//! The keys of the providers that the fleet names: which are there, and how to bring those that are not.

use std::collections::BTreeMap;

use agentry_config::{Settings, load_fleet};
use agentry_core::agent::{LlmTarget, ProviderKind};

use super::{CheckState, DoctorCheck, check};

/// One check for each provider that an agent of the fleet asks.
pub fn checks(settings: &Settings, replaced: bool) -> Vec<DoctorCheck> {
    if replaced || settings.sim {
        return vec![check("keys", CheckState::Good, "none needed: providers are simulated or replaced", None)];
    }
    let mut targets: BTreeMap<&'static str, Vec<LlmTarget>> = BTreeMap::new();
    let fleet = load_fleet(&settings.agents).fleet;
    for spec in fleet.iter().filter_map(|(_, entry)| entry.spec.as_ref()) {
        for target in std::iter::once(&spec.llm.target).chain(&spec.llm.fallback) {
            if target.provider.leaves_process() {
                targets.entry(target.provider.as_str()).or_default().push(target.clone());
            }
        }
    }
    if targets.is_empty() {
        return vec![check("keys", CheckState::Good, "none needed: no agent asks a provider outside", None)];
    }
    targets.values().filter_map(|targets| Some(of_provider(settings, targets.first()?.provider, targets))).collect()
}

fn of_provider(settings: &Settings, provider: ProviderKind, targets: &[LlmTarget]) -> DoctorCheck {
    let elsewhere = targets.iter().all(|target| target.base_url.is_some());
    let of = &settings.providers;
    match provider {
        ProviderKind::Openai => {
            let elsewhere = elsewhere || settings.openai_base_url.is_some();
            key("OPENAI_API_KEY", settings.openai_api_key.is_some(), elsewhere)
        }
        ProviderKind::Anthropic => {
            let elsewhere = elsewhere || of.anthropic_base_url.is_some();
            key("ANTHROPIC_API_KEY", of.anthropic_api_key.is_some(), elsewhere)
        }
        ProviderKind::Bedrock => bedrock(settings, targets),
        ProviderKind::Ollama | ProviderKind::Simulated => {
            check("keys", CheckState::Good, format!("provider {provider} needs none"), None)
        }
    }
}

fn key(variable: &'static str, is_set: bool, elsewhere: bool) -> DoctorCheck {
    match (is_set, elsewhere) {
        (true, _) => check("keys", CheckState::Good, format!("{variable} is set"), None),
        (false, true) => {
            let found = format!("{variable} is not set; all its agents have a host of their own");
            check("keys", CheckState::Good, found, None)
        }
        (false, false) => {
            let advice = format!("set {variable}, or use --sim; agents with a base_url of their own may not need it");
            check("keys", CheckState::Look, format!("{variable} is not set"), Some(&advice))
        }
    }
}

/// Only what can be seen without asking AWS.
fn bedrock(settings: &Settings, targets: &[LlmTarget]) -> DoctorCheck {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let by = if settings.providers.bedrock_api_key.is_some() {
        "AWS_BEARER_TOKEN_BEDROCK"
    } else if is_set("AWS_ACCESS_KEY_ID") && is_set("AWS_SECRET_ACCESS_KEY") {
        "AWS_ACCESS_KEY_ID"
    } else if is_set("AWS_PROFILE") {
        "AWS_PROFILE"
    } else if is_set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") || is_set("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
        "the container's credentials"
    } else {
        let advice = "set AWS_BEARER_TOKEN_BEDROCK, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; the \
                      default profile and an instance's role are found without";
        return check("keys", CheckState::Look, "bedrock has no key in the environment", Some(advice));
    };
    let has_region = settings.providers.aws_region.is_some() || is_set("AWS_DEFAULT_REGION");
    if has_region || targets.iter().all(|target| target.region.is_some() || target.base_url.is_some()) {
        return check("keys", CheckState::Good, format!("bedrock goes by {by}"), None);
    }
    let advice = "set AWS_REGION, or `region` in the agents' llm_config; that of an AWS profile is found without";
    check("keys", CheckState::Look, format!("bedrock goes by {by}, and has no region"), Some(advice))
}
