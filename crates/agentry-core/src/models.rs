//! Traits of models: what a model takes, refuses and gives, by provider and id.
//!
//! `models.toml` beside this crate's sources ships with Agentry, with sources and days; a deployment may add a file of
//! its own, whose entries are applied last. A model that no entry fits has the traits of its provider's default.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde::Deserialize;

use crate::agent::{Effort, ProviderKind};
use crate::time::Timestamp;

mod admit;

pub use admit::{Admitted, LeftOut};

/// The table that ships with Agentry.
const BUILTIN: &str = include_str!("../models.toml");
/// Maximum number of entries in one file.
const MAX_ENTRIES: usize = 10_000;
/// Time before a model's retirement from which on its users are warned.
const RETIREMENT_NOTICE: Duration = Duration::from_secs(90 * 86_400);

/// The API of a provider that a model is called by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WireApi {
    /// OpenAI Responses.
    Responses,
    /// OpenAI chat completions.
    Chat,
    /// Anthropic messages.
    Messages,
    /// Bedrock Converse.
    Converse,
    /// Ollama chat.
    Ollama,
}

/// The name of the limit of an answer in chat completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputLimit {
    /// `max_tokens`.
    MaxTokens,
    /// `max_completion_tokens`.
    MaxCompletionTokens,
}

/// Whether `temperature` and `top_p` are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplingTaken {
    /// Always.
    Allowed,
    /// Only with the effort `none`.
    WithoutReasoning,
    /// Never.
    Refused,
}

/// The thinking of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thinking {
    /// None that is asked for.
    None,
    /// Up to a number of tokens.
    Budget,
    /// As much as the model decides, guided by an effort.
    Adaptive,
}

/// The way in which prompt caching is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Caching {
    /// There is none.
    None,
    /// The provider caches by itself.
    Automatic,
    /// By marks in the request.
    Breakpoints,
}

/// What a model takes and gives.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a yes or no of its own in the table")]
pub struct Traits {
    /// API that it is called by at its provider's own address.
    pub api: WireApi,
    /// Name of the limit of an answer.
    pub limit: OutputLimit,
    /// Whether temperature and `top_p` are taken.
    pub sampling: SamplingTaken,
    /// Whether `top_k` is taken.
    pub top_k: bool,
    /// Whether `frequency_penalty` and `presence_penalty` are taken.
    pub penalties: bool,
    /// Whether stop sequences are taken.
    pub stop: bool,
    /// Whether a seed is taken.
    pub seed: bool,
    /// Whether the model can be forced to call a tool.
    pub forced_tool_choice: bool,
    /// Efforts that are taken; empty if there is no effort.
    pub efforts: Vec<Effort>,
    /// Thinking.
    pub thinking: Thinking,
    /// Whether thinking can be switched off.
    pub thinking_off: bool,
    /// Whether a verbosity is taken.
    pub verbosity: bool,
    /// Whether the provider holds answers to a schema.
    pub native_schema: bool,
    /// Caching of the beginning of a conversation.
    pub caching: Caching,
    /// Size of the context, in tokens.
    pub context: Option<u32>,
    /// Largest answer, in tokens.
    pub output: Option<u32>,
    /// Whether images are taken.
    pub images: bool,
    /// Whether documents are taken.
    pub documents: bool,
    /// First day on which the model no longer answers.
    pub retires: Option<Timestamp>,
    /// Model to use instead.
    pub successor: Option<Box<str>>,
    /// Whether an entry of the table fits the model.
    pub is_listed: bool,
}

impl Default for Traits {
    fn default() -> Self {
        Self::of_provider(ProviderKind::Openai)
    }
}

impl Traits {
    /// Returns the traits of a provider's models that are not listed: everything that its protocol knows is sent.
    fn of_provider(provider: ProviderKind) -> Self {
        let api = match provider {
            ProviderKind::Openai | ProviderKind::Simulated => WireApi::Chat,
            ProviderKind::Anthropic => WireApi::Messages,
            ProviderKind::Bedrock => WireApi::Converse,
            ProviderKind::Ollama => WireApi::Ollama,
        };
        Self {
            api,
            limit: OutputLimit::MaxTokens,
            sampling: SamplingTaken::Allowed,
            top_k: true,
            penalties: true,
            stop: true,
            seed: true,
            forced_tool_choice: true,
            // Servers that others run take what they know and ignore the rest.
            efforts: Effort::ALL.to_vec(),
            thinking: Thinking::None,
            thinking_off: true,
            verbosity: true,
            native_schema: false,
            caching: Caching::None,
            context: None,
            output: None,
            images: true,
            documents: true,
            retires: None,
            successor: None,
            is_listed: false,
        }
    }

    /// Returns whether the model has retired by this moment.
    #[must_use]
    pub fn is_retired(&self, at: Timestamp) -> bool {
        self.retires.is_some_and(|day| day <= at)
    }

    /// Returns a sentence about the retirement of a model that has retired or will within 90 days, with its successor.
    #[must_use]
    pub fn retirement_notice(&self, model: &str, at: Timestamp) -> Option<String> {
        let day = self.retires.filter(|day| day.before(RETIREMENT_NOTICE) <= at)?;
        let verb = if self.is_retired(at) { "retired" } else { "retires" };
        let successor = self.successor.as_deref().map_or(String::new(), |model| format!("; use {model}"));
        Some(format!("`{model}` {verb} on {}{successor}", day.to_jiff().strftime("%Y-%m-%d")))
    }
}

/// A model file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidModels(pub String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelFile {
    version: String,
    #[serde(default)]
    models: Vec<Entry>,
}

/// What differs for some models.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    provider: ProviderKind,
    models: Vec<String>,
    source: String,
    api: Option<WireApi>,
    limit: Option<OutputLimit>,
    sampling: Option<SamplingTaken>,
    top_k: Option<bool>,
    penalties: Option<bool>,
    stop: Option<bool>,
    seed: Option<bool>,
    forced_tool_choice: Option<bool>,
    efforts: Option<Vec<Effort>>,
    thinking: Option<Thinking>,
    thinking_off: Option<bool>,
    verbosity: Option<bool>,
    native_schema: Option<bool>,
    caching: Option<Caching>,
    context: Option<u32>,
    output: Option<u32>,
    images: Option<bool>,
    documents: Option<bool>,
    retires: Option<String>,
    successor: Option<Box<str>>,
    #[serde(skip)]
    retires_at: Option<Timestamp>,
}

impl Entry {
    fn fits(&self, provider: ProviderKind, model: &str) -> bool {
        self.provider == provider && self.models.iter().any(|pattern| fits(pattern, model))
    }

    fn apply(&self, traits: &mut Traits) {
        fn set<T: Clone>(to: &mut T, from: Option<&T>) {
            if let Some(value) = from {
                to.clone_from(value);
            }
        }
        traits.is_listed = true;
        set(&mut traits.api, self.api.as_ref());
        set(&mut traits.limit, self.limit.as_ref());
        set(&mut traits.sampling, self.sampling.as_ref());
        set(&mut traits.top_k, self.top_k.as_ref());
        set(&mut traits.penalties, self.penalties.as_ref());
        set(&mut traits.stop, self.stop.as_ref());
        set(&mut traits.seed, self.seed.as_ref());
        set(&mut traits.forced_tool_choice, self.forced_tool_choice.as_ref());
        set(&mut traits.efforts, self.efforts.as_ref());
        set(&mut traits.thinking, self.thinking.as_ref());
        set(&mut traits.thinking_off, self.thinking_off.as_ref());
        set(&mut traits.verbosity, self.verbosity.as_ref());
        set(&mut traits.native_schema, self.native_schema.as_ref());
        set(&mut traits.caching, self.caching.as_ref());
        set(&mut traits.images, self.images.as_ref());
        set(&mut traits.documents, self.documents.as_ref());
        traits.context = self.context.or(traits.context);
        traits.output = self.output.or(traits.output);
        if self.retires_at.is_some() {
            (traits.retires, traits.successor) = (self.retires_at, self.successor.clone());
        }
    }
}

/// Returns whether an id fits a pattern, which may begin and end with `*`.
#[must_use]
pub fn fits(pattern: &str, model: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (None, None) => pattern == model,
        (None, Some(start)) => model.starts_with(start),
        (Some(end), None) => model.ends_with(end),
        (Some(rest), Some(_)) => model.contains(rest.strip_suffix('*').unwrap_or_default()),
    }
}

/// Traits of models, by provider and id.
#[derive(Debug, Clone, Default)]
pub struct ModelTable {
    /// The version of the table.
    pub version: String,
    entries: Vec<Entry>,
}

impl ModelTable {
    /// Returns the table that ships with Agentry.
    #[must_use]
    pub fn builtin() -> Self {
        // A test parses the file, so the fallback is never used.
        Self::parse(BUILTIN).unwrap_or_default()
    }

    /// Returns the same table, which is read once in a process.
    #[must_use]
    pub fn shipped() -> &'static Self {
        static SHIPPED: LazyLock<ModelTable> = LazyLock::new(ModelTable::builtin);
        &SHIPPED
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// Returns the mistake and its entry.
    pub fn parse(text: &str) -> Result<Self, InvalidModels> {
        let mut file: ModelFile = toml::from_str(text).map_err(|error| InvalidModels(error.to_string()))?;
        if file.models.len() > MAX_ENTRIES {
            return Err(InvalidModels(format!("it has more than {MAX_ENTRIES} entries")));
        }
        for (number, entry) in (1..).zip(&mut file.models) {
            let shown = entry.models.first().cloned().unwrap_or_default();
            let wrong = |what: &str| InvalidModels(format!("entry {number} ({}/{shown}): {what}", entry.provider));
            if entry.models.is_empty() {
                return Err(wrong("`models` is empty; name ids, or patterns such as `gpt-6*`"));
            }
            if entry.source.trim().is_empty() {
                return Err(wrong("`source` is empty; say where it is published"));
            }
            if let Some(day) = &entry.retires {
                let at = crate::prices::day(day);
                let wrong_day = format!("`retires` is `{day}`; expected a day such as 2026-12-11");
                entry.retires_at = Some(at.ok_or_else(|| wrong(&wrong_day))?);
            }
        }
        Ok(Self { version: file.version, entries: file.models })
    }

    /// Returns `base` with the entries of this table applied after its own.
    #[must_use]
    pub fn over(self, base: Self) -> Self {
        let version = format!("{} over {}", self.version, base.version);
        Self { version, entries: base.entries.into_iter().chain(self.entries).collect() }
    }

    /// Returns the exact ids of the table, with their providers, in no particular order. An id may come twice.
    pub fn exact_ids(&self) -> impl Iterator<Item = (ProviderKind, &str)> {
        let ids = self.entries.iter().flat_map(|entry| entry.models.iter().map(|id| (entry.provider, id.as_str())));
        ids.filter(|(_, id)| !id.contains('*'))
    }

    /// Returns the traits of a model.
    #[must_use]
    pub fn of(&self, provider: ProviderKind, model: &str) -> Arc<Traits> {
        let mut traits = Traits::of_provider(provider);
        for entry in self.entries.iter().filter(|entry| entry.fits(provider, model)) {
            entry.apply(&mut traits);
        }
        Arc::new(traits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> ModelTable {
        ModelTable::parse(BUILTIN).unwrap()
    }

    fn openai(model: &str) -> Arc<Traits> {
        table().of(ProviderKind::Openai, model)
    }

    #[test]
    fn the_shipped_table_says_what_current_models_take() {
        let luna = openai("gpt-6-luna");
        assert!(openai("gpt-4.1").efforts.is_empty() && luna.efforts.contains(&Effort::Low));
        assert_eq!(
            (luna.api, luna.sampling, luna.context),
            (WireApi::Responses, SamplingTaken::WithoutReasoning, Some(1_050_000))
        );
        assert_eq!(openai("gpt-6.2-sol").sampling, SamplingTaken::Refused);
        assert!(
            openai("gpt-6.1-terra").efforts.contains(&Effort::None) && !openai("o3").efforts.contains(&Effort::None)
        );
        let sonnet = table().of(ProviderKind::Anthropic, "claude-sonnet-5-5");
        assert!(!sonnet.forced_tool_choice && sonnet.native_schema && sonnet.sampling == SamplingTaken::Refused);
        let haiku = table().of(ProviderKind::Anthropic, "claude-haiku-4-5-20251001");
        assert_eq!(
            (haiku.thinking, haiku.sampling, haiku.output),
            (Thinking::Budget, SamplingTaken::Allowed, Some(64_000))
        );
        let opus = table().of(ProviderKind::Bedrock, "eu.anthropic.claude-opus-5-5");
        assert_eq!((opus.caching, opus.forced_tool_choice), (Caching::Breakpoints, false));
    }

    #[test]
    fn retirement_has_a_day_and_a_successor() {
        let day = crate::prices::day("2026-12-11").unwrap();
        let traits = openai("gpt-5-mini");
        assert_eq!((traits.retires, traits.successor.as_deref()), (Some(day), Some("gpt-6-luna")));
        assert!(traits.is_retired(day) && !traits.is_retired(Timestamp(day.0 - 1)));
        assert_eq!(openai("gpt-5.2").retires, None, "another model with the same beginning");
        assert!(table().of(ProviderKind::Anthropic, "claude-sonnet-4-5").is_retired(day));
    }

    #[test]
    fn retirement_is_told_90_days_before() {
        let (day, traits) = (crate::prices::day("2026-12-11").unwrap(), openai("gpt-5-mini"));
        let notice = |at: Timestamp| traits.retirement_notice("gpt-5-mini", at);
        assert_eq!(notice(Timestamp(day.before(RETIREMENT_NOTICE).0 - 1)), None);
        let soon = notice(day.before(RETIREMENT_NOTICE)).unwrap();
        assert_eq!(soon, "`gpt-5-mini` retires on 2026-12-11; use gpt-6-luna");
        assert!(notice(day).unwrap().contains("retired on"));
        assert_eq!(openai("gpt-6-luna").retirement_notice("gpt-6-luna", day), None);
    }

    #[test]
    fn exact_ids_are_listed_without_patterns() {
        let ids: Vec<String> = table().exact_ids().map(|(provider, id)| format!("{provider}/{id}")).collect();
        assert!(ids.iter().any(|id| id == "anthropic/claude-sonnet-5-5"), "{ids:?}");
        assert!(ids.iter().all(|id| !id.contains('*')), "{ids:?}");
    }

    #[test]
    fn what_is_not_listed_is_sent_everything() {
        let unknown = openai("qwen3:8b");
        assert!(!unknown.is_listed && unknown.api == WireApi::Chat && unknown.sampling == SamplingTaken::Allowed);
    }

    #[test]
    fn a_file_of_ones_own_comes_last() {
        let own = "version='own'\n[[models]]\nprovider='openai'\nmodels=['gpt-6-luna','*-7b']\nsource='contract'\nstop=true\n";
        let table = ModelTable::parse(own).unwrap().over(ModelTable::builtin());
        assert!(table.of(ProviderKind::Openai, "gpt-6-luna").stop);
        assert!(table.of(ProviderKind::Openai, "mistral-7b").is_listed);
        assert!(table.version.starts_with("own over 20"), "{}", table.version);
    }

    #[test]
    fn mistakes_are_named_with_their_entry() {
        let entry = |lines: &str| format!("version='t'\n[[models]]\nprovider='openai'\n{lines}");
        for (text, expected) in [
            (entry("models=[]\nsource='s'"), "entry 1 (openai/): `models` is empty"),
            (entry("models=['m']\nsource=' '"), "`source` is empty"),
            (entry("models=['m']\nsource='s'\nretires='soon'"), "entry 1 (openai/m): `retires` is `soon`"),
            (entry("models=['m']\nsource='s'\ntempo=1"), "tempo"),
            (entry("models=['m']\nsource='s'\nefforts=['huge']"), "huge"),
        ] {
            let error = ModelTable::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
