//! Settings of model providers: keys, hosts, times, and what models may be asked for.

use std::time::Duration;

use agentry_core::agent::ProviderKind;
use secrecy::SecretString;

use crate::problem::{did_you_mean, one_of};

/// Limits at most.
const MAX_LIMITS: usize = 1_000;
/// The largest number in a limit.
const MAX_NUMBER: u64 = 1_000_000_000_000;

/// Settings of model providers besides OpenAI's own.
#[derive(Debug, Clone, Default)]
pub struct ProviderSettings {
    /// The key for Anthropic.
    pub anthropic_api_key: Option<SecretString>,
    /// Another host for provider `anthropic`.
    pub anthropic_base_url: Option<String>,
    /// The key for Bedrock, instead of signed calls.
    pub bedrock_api_key: Option<SecretString>,
    /// Another host for provider `bedrock`.
    pub bedrock_base_url: Option<String>,
    /// The region for provider `bedrock`.
    pub aws_region: Option<String>,
    /// The key for Ollama, where its host wants one.
    pub ollama_api_key: Option<SecretString>,
    /// The host for provider `ollama`.
    pub ollama_base_url: Option<String>,
    /// What models may be asked for.
    pub limits: Vec<ModelLimit>,
    /// To open a connection.
    pub connect_timeout: Duration,
    /// Until the first content of a stream.
    pub first_token_timeout: Duration,
    /// The longest silence within a stream.
    pub token_timeout: Duration,
}

/// What a model may be asked for. Nothing is limited that is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelLimit {
    /// The provider.
    pub provider: ProviderKind,
    /// The model; each of the provider's when absent.
    pub model: Option<String>,
    /// Requests in a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens in a minute.
    pub tokens_per_minute: Option<u64>,
    /// Calls at once.
    pub concurrent: Option<u32>,
}

/// A list of limits, apart by commas.
pub(super) fn limits(text: &str) -> Result<Vec<ModelLimit>, String> {
    let mut limits: Vec<ModelLimit> = Vec::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let limit = limit(entry)?;
        if limits.iter().any(|known| (known.provider, &known.model) == (limit.provider, &limit.model)) {
            return Err(format!("`{entry}` is the second limit of the same model"));
        }
        limits.push(limit);
    }
    if limits.len() > MAX_LIMITS { Err(format!("expected at most {MAX_LIMITS} limits")) } else { Ok(limits) }
}

fn limit(entry: &str) -> Result<ModelLimit, String> {
    let example = "expected limits such as `openai/gpt-4.1 rpm=500 tpm=200000 concurrent=32`";
    let mut words = entry.split_whitespace();
    let target = words.next().unwrap_or_default();
    let (provider, model) = target.split_once('/').filter(|(_, model)| !model.is_empty()).ok_or(example)?;
    let mut limit = ModelLimit {
        provider: kind(provider)?,
        model: (model != "*").then(|| model.to_owned()),
        requests_per_minute: None,
        tokens_per_minute: None,
        concurrent: None,
    };
    let mut is_empty = true;
    for word in words {
        let (name, value) = word.split_once('=').ok_or(example)?;
        let number = value.replace('_', "").parse::<u64>().ok().filter(|number| (1..=MAX_NUMBER).contains(number));
        let number = number.ok_or_else(|| format!("`{word}`: expected a number from 1"))?;
        let small = u32::try_from(number).map_err(|_| format!("`{word}`: expected at most {}", u32::MAX));
        match name {
            "rpm" => limit.requests_per_minute = Some(small?),
            "tpm" => limit.tokens_per_minute = Some(number),
            "concurrent" => limit.concurrent = Some(small?),
            _ => return Err(format!("`{word}`: expected {}", one_of(&["rpm", "tpm", "concurrent"]))),
        }
        is_empty = false;
    }
    if is_empty { Err(format!("`{entry}` limits nothing; {example}")) } else { Ok(limit) }
}

fn kind(word: &str) -> Result<ProviderKind, String> {
    let kinds = || ProviderKind::ALL.into_iter().filter(|kind| kind.leaves_process());
    kinds().find(|kind| kind.as_str() == word).ok_or_else(|| {
        let names: Vec<&str> = kinds().map(ProviderKind::as_str).collect();
        let expected = format!("`{word}` is no provider: expected {}", one_of(&names));
        match did_you_mean(word, names.iter().copied()) {
            Some(near) => format!("{expected}; did you mean `{near}`?"),
            None => expected,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let text = "openai/gpt-4.1 rpm=500 tpm=200_000, bedrock/arn:aws:x/us.y:0 concurrent=8,anthropic/* rpm=5,";
        let read = limits(text).unwrap();
        let models: Vec<_> = read.iter().map(|limit| (limit.provider, limit.model.as_deref())).collect();
        assert_eq!(
            models,
            [
                (ProviderKind::Openai, Some("gpt-4.1")),
                (ProviderKind::Bedrock, Some("arn:aws:x/us.y:0")),
                (ProviderKind::Anthropic, None)
            ]
        );
        assert_eq!((read[0].requests_per_minute, read[0].tokens_per_minute), (Some(500), Some(200_000)));
        assert_eq!((read[1].concurrent, read[2].requests_per_minute), (Some(8), Some(5)));
        assert!(limits("").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_limit_says_why() {
        for (text, words) in [
            ("openai", "expected limits such as"),
            ("openai/m", "limits nothing"),
            ("opnai/m rpm=1", "did you mean `openai`"),
            ("simulated/m rpm=1", "is no provider"),
            ("openai/m rpm=0", "a number from 1"),
            ("openai/m rps=1", "rpm"),
            ("openai/m rpm=1, openai/m tpm=2", "second limit"),
        ] {
            let problem = limits(text).unwrap_err();
            assert!(problem.contains(words), "{text}: {problem}");
        }
    }
}
