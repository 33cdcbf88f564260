//! Prices of model calls by provider, exact model id and day, in integers.
//!
//! Prices come from a file with sources and days; `prices.toml` beside this crate's sources ships with Agentry, and a
//! deployment may override it with a file of its own. A model that is not listed is unpriced; nothing is guessed.

use std::collections::HashMap;

use serde::Deserialize;

use crate::agent::ProviderKind;
use crate::chat::Usage;
use crate::money::NanoUsd;
use crate::time::Timestamp;

/// The table that ships with Agentry.
const BUILTIN: &str = include_str!("../prices.toml");
/// Maximum number of entries in one file.
const MAX_ENTRIES: usize = 10_000;

/// Prices of models, by provider, exact model id and first day.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PriceTable {
    /// The version of the table, kept with reports.
    pub version: String,
    /// For each `provider/model`: first days and prices, the latest first.
    models: HashMap<String, Vec<(Timestamp, Price)>>,
}

/// The prices of a model, in millionths of a dollar per million tokens, which is a trillionth of a dollar per token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Price of tokens sent.
    pub input: i64,
    /// Price of tokens received.
    pub output: i64,
    /// Price of tokens read from the provider's cache.
    pub cached: i64,
    /// Price of tokens written to the provider's cache.
    pub cache_write: i64,
    /// Price of tokens written to the provider's cache for an hour.
    pub cache_write_1h: i64,
}

/// A price file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPrices(pub String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: String,
    #[serde(default)]
    prices: Vec<Entry>,
}

/// The prices of some models from a day on, in US dollars per million tokens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    provider: ProviderKind,
    models: Vec<String>,
    /// First UTC day of the price.
    from: String,
    /// Publication that the price was taken from.
    source: String,
    input: String,
    output: String,
    /// Defaults to `input`, like the next two.
    cached: Option<String>,
    cache_write: Option<String>,
    cache_write_1h: Option<String>,
}

impl PriceTable {
    /// Returns the table that ships with Agentry.
    ///
    /// Source: the providers' public price lists, named in the file; the simulator's models carry prices of their own
    /// so that cost can be shown and tested without a key.
    #[must_use]
    pub fn builtin() -> Self {
        // A test parses the file, so the fallback is never used.
        Self::parse(BUILTIN).unwrap_or_default()
    }

    /// Reads a price file.
    ///
    /// # Errors
    /// Returns the mistake and its entry.
    pub fn parse(text: &str) -> Result<Self, InvalidPrices> {
        let file: File = toml::from_str(text).map_err(|error| InvalidPrices(error.to_string()))?;
        if file.prices.len() > MAX_ENTRIES {
            return Err(InvalidPrices(format!("it has more than {MAX_ENTRIES} entries")));
        }
        let mut table = Self { version: file.version, models: HashMap::new() };
        for (number, entry) in (1..).zip(file.prices) {
            let shown = entry.models.first().cloned().unwrap_or_default();
            let wrong = |what: String| InvalidPrices(format!("entry {number} ({}/{shown}): {what}", entry.provider));
            if entry.models.is_empty() {
                return Err(wrong("`models` is empty; name the exact model ids".to_owned()));
            }
            if entry.source.trim().is_empty() {
                return Err(wrong("`source` is empty; say where the price is published".to_owned()));
            }
            let from = day(&entry.from)
                .ok_or_else(|| wrong(format!("`from` is `{}`; expected a day such as 2026-11-25", entry.from)))?;
            let price = entry.price(wrong)?;
            for model in &entry.models {
                let periods = table.models.entry(format!("{}/{model}", entry.provider)).or_default();
                if periods.iter().any(|(known, _)| *known == from) {
                    return Err(wrong(format!("`{model}` has two prices from {}", entry.from)));
                }
                periods.push((from, price));
                periods.sort_by_key(|(from, _)| std::cmp::Reverse(*from));
            }
        }
        Ok(table)
    }

    /// Returns this table, with `base` for models that this one does not list.
    #[must_use]
    pub fn or(mut self, base: Self) -> Self {
        self.version = format!("{} over {}", self.version, base.version);
        for (model, periods) in base.models {
            self.models.entry(model).or_insert(periods);
        }
        self
    }

    /// Returns every model that has a price, as `provider/model`, in no particular order.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.models.keys().map(String::as_str)
    }

    /// Returns the price of a model at a moment; `None` if it has none.
    #[must_use]
    pub fn price(&self, provider: ProviderKind, model: &str, at: Timestamp) -> Option<Price> {
        let periods = self.models.get(&format!("{provider}/{model}"))?;
        periods.iter().find(|(from, _)| *from <= at).map(|(_, price)| *price)
    }

    /// Returns the most that a call of so many tokens can cost.
    #[must_use]
    pub fn most(&self, provider: ProviderKind, model: &str, input: u64, output: u64, at: Timestamp) -> Option<NanoUsd> {
        let usage = Usage { input_tokens: input, output_tokens: output, ..Usage::default() };
        self.cost(provider, model, &usage, at)
    }

    /// Returns the cost of a call that ended at `at`; `None` if the model has no price then. Tokens read from or
    /// written to the provider's cache are charged at their own price instead of the input price. The sum is rounded
    /// once, half up.
    #[must_use]
    pub fn cost(&self, provider: ProviderKind, model: &str, usage: &Usage, at: Timestamp) -> Option<NanoUsd> {
        if provider == ProviderKind::Simulated {
            return Some(NanoUsd::ZERO);
        }
        let price = self.price(provider, model, at)?;
        // Parts of the input; tokens that a provider reports beyond the total are not charged twice.
        let mut fresh = usage.input_tokens;
        let mut part = |tokens: u64| {
            let tokens = tokens.min(fresh);
            fresh -= tokens;
            tokens
        };
        let charged = [
            (part(usage.cached_tokens), price.cached),
            (part(usage.cache_write_tokens), price.cache_write),
            (part(usage.cache_write_1h_tokens), price.cache_write_1h),
            (fresh, price.input),
            (usage.output_tokens, price.output),
        ];
        let picos: i128 = charged.iter().map(|(tokens, price)| i128::from(*tokens) * i128::from(*price)).sum();
        Some(NanoUsd(i64::try_from((picos + 500) / 1_000).unwrap_or(i64::MAX)))
    }
}

impl Entry {
    fn price(&self, wrong: impl Fn(String) -> InvalidPrices) -> Result<Price, InvalidPrices> {
        let amount = |name: &str, text: &str| {
            // Dollars with nine decimals: millionths are thousands of nano-dollars.
            NanoUsd::parse_usd(text)
                .ok()
                .filter(|nanos| nanos.0 % 1_000 == 0)
                .map(|nanos| nanos.0 / 1_000)
                .ok_or_else(|| wrong(format!("`{name}` is `{text}`; expected dollars per million tokens such as 2.50")))
        };
        let input = amount("input", &self.input)?;
        let or_input = |name: &str, text: &Option<String>| text.as_deref().map_or(Ok(input), |text| amount(name, text));
        Ok(Price {
            input,
            output: amount("output", &self.output)?,
            cached: or_input("cached", &self.cached)?,
            cache_write: or_input("cache_write", &self.cache_write)?,
            cache_write_1h: or_input("cache_write_1h", &self.cache_write_1h)?,
        })
    }
}

/// Returns the start of a UTC day.
pub(crate) fn day(text: &str) -> Option<Timestamp> {
    let date: jiff::civil::Date = text.parse().ok()?;
    let start = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp(start.timestamp().as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A moment when every price of the shipped table holds.
    const NOW: Timestamp = Timestamp(1_795_000_000_000_000);

    fn usage(input: u64, output: u64) -> Usage {
        Usage { input_tokens: input, output_tokens: output, ..Usage::default() }
    }

    #[test]
    fn the_shipped_table_reads_and_prices_exact_ids_only() {
        let table = PriceTable::parse(BUILTIN).unwrap();
        let cost = |model: &str| table.cost(ProviderKind::Openai, model, &usage(1_000, 10), NOW);
        assert_eq!(cost("gpt-4o"), Some(NanoUsd(1_000 * 2_500 + 10 * 10_000)));
        for unknown in ["gpt-4o-next", "GPT-4o", "gpt-4", "openai/gpt-4o", ""] {
            assert_eq!(cost(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn each_part_of_the_input_is_charged_once_at_its_own_price() {
        let table = PriceTable::parse(
            r#"version = "t"
            [[prices]]
            provider = "anthropic"
            models = ["m"]
            from = "2026-01-01"
            source = "here"
            input = "3"
            output = "15"
            cached = "0.3"
            cache_write = "3.75"
            cache_write_1h = "6""#,
        )
        .unwrap();
        let cost = |usage: Usage| table.cost(ProviderKind::Anthropic, "m", &usage, NOW).unwrap().0;
        let all = Usage {
            cached_tokens: 400,
            cache_write_tokens: 200,
            cache_write_1h_tokens: 100,
            reasoning_tokens: 4,
            ..usage(1_000, 10)
        };
        assert_eq!(cost(all), 300 * 3_000 + 400 * 300 + 200 * 3_750 + 100 * 6_000 + 10 * 15_000);
        let too_much = Usage { cached_tokens: 5_000, cache_write_tokens: 5_000, ..usage(1_000, 0) };
        assert_eq!(cost(too_much), 1_000 * 300, "a provider that counts more than it was sent");
        assert_eq!(cost(usage(u64::MAX, u64::MAX)), i64::MAX);
    }

    #[test]
    fn small_prices_are_rounded_once() {
        let text = |input: &str| {
            format!(
                "version='t'\n[[prices]]\nprovider='bedrock'\nmodels=['m']\nfrom='2026-01-01'\nsource='s'\n\
                 input='{input}'\noutput='0'"
            )
        };
        let table = PriceTable::parse(&text("0.00875")).unwrap();
        let cost = |tokens| table.cost(ProviderKind::Bedrock, "m", &usage(tokens, 0), NOW).unwrap().0;
        assert_eq!((cost(1), cost(2), cost(1_000), cost(0)), (9, 18, 8_750, 0));
        assert!(PriceTable::parse(&text("0.0000001")).unwrap_err().0.contains("`input`"));
    }

    #[test]
    fn a_price_holds_from_its_day_until_the_next() {
        let entry = |from: &str, input: &str| {
            format!(
                "[[prices]]\nprovider='openai'\nmodels=['m']\nfrom='{from}'\nsource='s'\ninput='{input}'\noutput='0'\n"
            )
        };
        let text = format!("version='t'\n{}{}", entry("2026-06-01", "2"), entry("2026-01-01", "1"));
        let table = PriceTable::parse(&text).unwrap();
        let at = |day: &str| super::day(day).unwrap();
        let input = |moment| table.price(ProviderKind::Openai, "m", moment).map(|price| price.input);
        assert_eq!(input(Timestamp(at("2026-01-01").0 - 1)), None);
        assert_eq!(input(at("2026-01-01")), Some(1_000_000));
        assert_eq!(input(Timestamp(at("2026-06-01").0 - 1)), Some(1_000_000));
        assert_eq!(input(at("2026-06-01")), Some(2_000_000));
        let twice = format!("version='t'\n{}{}", entry("2026-01-01", "2"), entry("2026-01-01", "1"));
        assert!(PriceTable::parse(&twice).unwrap_err().0.contains("two prices"));
    }

    #[test]
    fn a_file_of_ones_own_comes_first() {
        let own = "version='own'\n[[prices]]\nprovider='openai'\nmodels=['gpt-4o']\nfrom='2020-01-01'\nsource='contract'\n\
                   input='1'\noutput='1'\n";
        let table = PriceTable::parse(own).unwrap().or(PriceTable::builtin());
        assert_eq!(table.price(ProviderKind::Openai, "gpt-4o", NOW).map(|price| price.input), Some(1_000_000));
        assert!(table.price(ProviderKind::Openai, "gpt-4.1", NOW).is_some());
        assert!(table.version.starts_with("own over 20"), "{}", table.version);
    }

    #[test]
    fn mistakes_are_named_with_their_entry() {
        let entry = |lines: &str| format!("version='t'\n[[prices]]\nprovider='openai'\nmodels=['m']\n{lines}");
        for (text, expected) in [
            (entry("from='soon'\nsource='s'\ninput='1'\noutput='1'"), "entry 1 (openai/m): `from` is `soon`"),
            (entry("from='2026-01-01'\nsource=' '\ninput='1'\noutput='1'"), "`source` is empty"),
            (entry("from='2026-01-01'\nsource='s'\ninput='-1'\noutput='1'"), "`input` is `-1`"),
            (entry("from='2026-01-01'\nsource='s'\ninput='1'"), "output"),
            (entry("from='2026-01-01'\nsource='s'\ninput='1'\noutput='1'\nprice='2'"), "price"),
            ("prices = []".to_owned(), "version"),
        ] {
            let error = PriceTable::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
