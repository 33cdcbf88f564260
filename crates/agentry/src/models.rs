//! `agentry models`: what the tables know of models.

use std::collections::BTreeSet;
use std::str::FromStr;

use agentry_config::Tables;
use agentry_core::agent::ProviderKind;
use agentry_core::chat::Usage;
use agentry_core::models::{SamplingTaken, Traits, fits};
use agentry_core::time::Timestamp;
use serde::Serialize;

use crate::cli::ModelsArgs;
use crate::failure::Failure;
use crate::render::{self, OutputFormat, TableColumn, number, text};
use crate::settings;

/// Tokens of the request whose cost gives the price of a token; few, so that no tier of long prompts is reached.
const SAMPLE_TOKENS: u64 = 10_000;
/// Times that number of tokens in a million.
const SAMPLES_PER_MILLION: u64 = 1_000_000 / SAMPLE_TOKENS;

/// A model, as the tables know it.
#[derive(Serialize)]
struct ModelRow {
    provider: ProviderKind,
    model: String,
    /// Prices in billionths of a dollar per million tokens; absent if the model has none.
    input_nano_usd: Option<u64>,
    cached_nano_usd: Option<u64>,
    output_nano_usd: Option<u64>,
    /// Tokens.
    context: Option<u32>,
    max_output: Option<u32>,
    takes: Vec<String>,
    retires: Option<String>,
    successor: Option<Box<str>>,
    is_retired: bool,
}

const COLUMNS: [TableColumn<ModelRow>; 8] = [
    text("MODEL", |row| format!("{}/{}", row.provider, row.model)),
    number("INPUT/M", |row| price(row.input_nano_usd)),
    number("CACHED/M", |row| price(row.cached_nano_usd)),
    number("OUTPUT/M", |row| price(row.output_nano_usd)),
    number("CONTEXT", |row| render::shown(&row.context)),
    number("MAX OUTPUT", |row| render::shown(&row.max_output)),
    text("RETIRES", retirement),
    text("TAKES", |row| row.takes.join(", ")),
];

/// Prints the models that fit the pattern, by provider and id.
pub fn models(args: &ModelsArgs) -> Result<(), Failure> {
    let tables = settings::tables(&settings::of_file(args.config.as_ref())?)?;
    let rows = rows(&tables, args.pattern.as_deref(), crate::access::now());
    match args.output {
        OutputFormat::Table => render::rows(&rows, &COLUMNS, "no model that the tables know fits"),
        format => render::document(format, &rows),
    }
}

/// Returns the models that have a price or an entry under their exact id.
fn rows(tables: &Tables, pattern: Option<&str>, at: Timestamp) -> Vec<ModelRow> {
    let priced = tables.prices.models().filter_map(|model| model.split_once('/'));
    let priced = priced.filter_map(|(provider, model)| Some((ProviderKind::from_str(provider).ok()?, model)));
    let ids: BTreeSet<(ProviderKind, &str)> = priced.chain(tables.models.exact_ids()).collect();
    let is_wanted = |provider: ProviderKind, model: &str| match pattern {
        None => true,
        Some(pattern) if pattern.contains('*') => fits(pattern, model) || fits(pattern, &format!("{provider}/{model}")),
        Some(part) => format!("{provider}/{model}").contains(part),
    };
    let wanted = ids.into_iter().filter(|(provider, model)| is_wanted(*provider, model));
    wanted.map(|(provider, model)| row(tables, provider, model, at)).collect()
}

fn row(tables: &Tables, provider: ProviderKind, model: &str, at: Timestamp) -> ModelRow {
    let traits = tables.models.of(provider, model);
    let per_million = |usage: Usage| {
        let cost = tables.prices.cost(provider, model, &usage, at)?;
        Some(u64::try_from(cost.0).unwrap_or_default() * SAMPLES_PER_MILLION)
    };
    let input = Usage { input_tokens: SAMPLE_TOKENS, ..Usage::default() };
    ModelRow {
        provider,
        model: model.to_owned(),
        cached_nano_usd: per_million(Usage { cached_tokens: SAMPLE_TOKENS, ..input }),
        input_nano_usd: per_million(input),
        output_nano_usd: per_million(Usage { output_tokens: SAMPLE_TOKENS, ..Usage::default() }),
        context: traits.context,
        max_output: traits.output,
        takes: if traits.is_listed { takes(&traits) } else { Vec::new() },
        retires: traits.retires.map(|day| day.to_jiff().strftime("%Y-%m-%d").to_string()),
        successor: traits.successor.clone(),
        is_retired: traits.is_retired(at),
    }
}

/// Returns the parameters that a model takes, by their keys in an agent's file.
fn takes(traits: &Traits) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    let mut add = |is_taken: bool, key: &str| {
        if is_taken {
            keys.push(key.to_owned());
        }
    };
    match traits.sampling {
        SamplingTaken::Allowed => add(true, "temperature"),
        SamplingTaken::WithoutReasoning => add(true, "temperature (reasoning: none)"),
        SamplingTaken::Refused => {}
    }
    if let (Some(least), Some(most)) = (traits.efforts.iter().min(), traits.efforts.iter().max()) {
        add(true, &format!("reasoning {least}–{most}"));
    }
    add(traits.verbosity, "verbosity");
    add(traits.top_k, "top_k");
    add(traits.stop, "stop_sequences");
    add(traits.penalties, "penalties");
    add(traits.seed, "seed");
    add(traits.forced_tool_choice, "tool_choice: required");
    add(traits.native_schema, "schema");
    keys
}

fn price(nanos: Option<u64>) -> String {
    nanos.map_or("–".to_owned(), |nanos| {
        let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
        let short = text.trim_end_matches('0');
        // At least cents.
        let decimals = short.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        format!("${short}{}", "0".repeat(2_usize.saturating_sub(decimals)))
    })
}

fn retirement(row: &ModelRow) -> String {
    let Some(day) = &row.retires else { return "–".to_owned() };
    let successor = row.successor.as_deref().map_or(String::new(), |model| format!(" → {model}"));
    format!("{day}{successor}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_000_000_000_000);

    #[test]
    fn rows_have_prices_limits_and_retirement() {
        let found = rows(Tables::shipped(), Some("openai/gpt-4.1-mini"), NOW);
        let row = found.iter().find(|row| row.model == "gpt-4.1-mini").unwrap();
        assert_eq!((price(row.input_nano_usd), price(row.output_nano_usd)), ("$0.40".into(), "$1.60".into()));
        assert_eq!(retirement(row), "2027-01-14 → gpt-6-luna");
        assert!(!row.is_retired && row.takes.contains(&"temperature".to_owned()), "{:?}", row.takes);
    }

    #[test]
    fn a_pattern_is_a_part_of_an_id_or_has_a_star() {
        let names = |pattern: &str| -> Vec<String> {
            rows(Tables::shipped(), Some(pattern), NOW).into_iter().map(|row| row.model).collect()
        };
        assert!(names("sonnet-5-5").contains(&"claude-sonnet-5-5".to_owned()));
        assert!(names("claude-*").iter().all(|model| model.starts_with("claude-")));
        assert_eq!(names("no-such-model"), Vec::<String>::new());
        assert_eq!(price(None), "–");
        assert_eq!(price(Some(125_000_000)), "$0.125");
    }
}
