//! Settings of model providers: keys, hosts, timeouts and rate limits.

use std::time::Duration;

use agentry_core::agent::ProviderKind;
use secrecy::SecretString;

use super::value::Parsed;
use crate::problem::{did_you_mean, one_of};

/// Maximum number of limits.
const MAX_LIMITS: usize = 1_000;
/// Maximum number in a limit.
const MAX_NUMBER: u64 = 1_000_000_000_000;

/// Settings of model providers other than OpenAI.
#[derive(Debug, Clone, Default)]
pub struct ProviderSettings {
    /// API key of Anthropic.
    pub anthropic_api_key: Option<SecretString>,
    /// Base URL of provider `anthropic`, if not its own.
    pub anthropic_base_url: Option<String>,
    /// API key of Bedrock, instead of signed calls.
    pub bedrock_api_key: Option<SecretString>,
    /// Base URL of provider `bedrock`, if not its own.
    pub bedrock_base_url: Option<String>,
    /// Region of provider `bedrock`.
    pub aws_region: Option<String>,
    /// API key of Ollama, if its host requires one.
    pub ollama_api_key: Option<SecretString>,
    /// Base URL of provider `ollama`.
    pub ollama_base_url: Option<String>,
    /// Rate limits of models.
    pub limits: Vec<ModelLimit>,
    /// Timeout of a connection attempt.
    pub connect_timeout: Duration,
    /// Timeout of the first content of a stream.
    pub first_token_timeout: Duration,
    /// Maximum silence within a stream.
    pub token_timeout: Duration,
}

/// The rate limits of a model. `None` is unlimited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelLimit {
    /// The provider.
    pub provider: ProviderKind,
    /// Model; `None` for each model of the provider.
    pub model: Option<String>,
    /// Maximum number of requests per minute.
    pub requests_per_minute: Option<u32>,
    /// Maximum number of tokens per minute.
    pub tokens_per_minute: Option<u64>,
    /// Maximum number of concurrent calls.
    pub concurrent: Option<u32>,
}

/// Parses a list of limits, separated by commas.
pub(super) fn limits(text: &str) -> Parsed<Vec<ModelLimit>> {
    let mut limits: Vec<ModelLimit> = Vec::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let limit = limit(entry)?;
        if limits.iter().any(|known| (known.provider, &known.model) == (limit.provider, &limit.model)) {
            return Err(format!("`{entry}` is the second limit of the same model").into());
        }
        limits.push(limit);
    }
    if limits.len() > MAX_LIMITS { Err(format!("expected at most {MAX_LIMITS} limits").into()) } else { Ok(limits) }
}

fn limit(entry: &str) -> Parsed<ModelLimit> {
    let example = "expected limits such as `openai/gpt-6-sol rpm=500 tpm=200000 concurrent=32`";
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
            _ => return Err(format!("`{word}`: expected {}", one_of(&["rpm", "tpm", "concurrent"])).into()),
        }
        is_empty = false;
    }
    if is_empty { Err(format!("`{entry}` limits nothing; {example}").into()) } else { Ok(limit) }
}

fn kind(word: &str) -> Parsed<ProviderKind> {
    let kinds = || ProviderKind::ALL.into_iter().filter(|kind| kind.leaves_process());
    kinds().find(|kind| kind.as_str() == word).ok_or_else(|| {
        let names: Vec<&str> = kinds().map(ProviderKind::as_str).collect();
        let expected = format!("`{word}` is no provider: expected {}", one_of(&names));
        match did_you_mean(word, names.iter().copied()) {
            Some(near) => format!("{expected}; did you mean `{near}`?").into(),
            None => expected.into(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let text = "openai/gpt-6-sol rpm=500 tpm=200_000, bedrock/arn:aws:x/us.y:0 concurrent=8,anthropic/* rpm=5,";
        let read = limits(text).unwrap();
        let models: Vec<_> = read.iter().map(|limit| (limit.provider, limit.model.as_deref())).collect();
        assert_eq!(
            models,
            [
                (ProviderKind::Openai, Some("gpt-6-sol")),
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
            assert!(problem.0.contains(words), "{text}: {problem}");
        }
    }
}
