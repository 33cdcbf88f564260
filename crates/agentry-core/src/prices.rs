//! Prices of model calls by provider, exact model id and day, in integers.
//!
//! Prices come from a file with sources and days; `prices.toml` beside this crate's sources ships with Agentry, and a
//! deployment may override it with a file of its own. A model that is not listed is unpriced; nothing is guessed.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use crate::agent::ProviderKind;
use crate::chat::{ServiceTier, Usage};
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
    /// For each `provider/model`: its terms, the latest first.
    models: HashMap<String, Vec<Terms>>,
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
    /// Price of tokens written to the provider's cache for twelve hours.
    pub cache_write_12h: i64,
}

/// All that decides the cost of a model's calls in a period.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Terms {
    from: Timestamp,
    until: Option<Timestamp>,
    price: Price,
    /// Prices of the whole request when its prompt has more tokens, the shortest first.
    above: Vec<(u64, Price)>,
    /// Factors of service tiers, in thousandths.
    tiers: Vec<(ServiceTier, i64)>,
    /// Price of a web search, in trillionths of a dollar.
    web_search: i64,
    peak: Option<Peak>,
}

/// Hours at which a model costs more.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Peak {
    /// Hours of weekdays (UTC), each from the first to before the second.
    hours: Vec<(i8, i8)>,
    /// Factor, in thousandths.
    times: i64,
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
    /// First UTC day on which it no longer holds; else it holds until the next entry's day.
    until: Option<String>,
    /// Publication that the price was taken from.
    source: String,
    input: String,
    output: String,
    /// Defaults to `input`, like the next three.
    cached: Option<String>,
    cache_write: Option<String>,
    cache_write_1h: Option<String>,
    cache_write_12h: Option<String>,
    /// Prices for longer prompts.
    #[serde(default)]
    above: Vec<Above>,
    /// Factors of service tiers.
    #[serde(default)]
    tiers: BTreeMap<ServiceTier, String>,
    /// Dollars per thousand web searches.
    web_search: Option<String>,
    peak: Option<PeakEntry>,
}

/// The prices of the whole request when its prompt has more than `tokens`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Above {
    tokens: u64,
    input: String,
    output: String,
    cached: Option<String>,
    cache_write: Option<String>,
    cache_write_1h: Option<String>,
    cache_write_12h: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeakEntry {
    hours: Vec<(i8, i8)>,
    times: String,
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
            let terms = entry.terms(&wrong)?;
            for model in &entry.models {
                let periods = table.models.entry(format!("{}/{model}", entry.provider)).or_default();
                if periods.iter().any(|known| known.from == terms.from) {
                    return Err(wrong(format!("`{model}` has two prices from {}", entry.from)));
                }
                periods.push(terms.clone());
                periods.sort_by_key(|terms| std::cmp::Reverse(terms.from));
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

    /// Returns the price of a model at a moment, for short prompts; `None` if it has none.
    #[must_use]
    pub fn price(&self, provider: ProviderKind, model: &str, at: Timestamp) -> Option<Price> {
        self.terms(provider, model, at).map(|terms| terms.price)
    }

    fn terms(&self, provider: ProviderKind, model: &str, at: Timestamp) -> Option<&Terms> {
        let periods = self.models.get(&format!("{provider}/{model}"))?;
        periods.iter().find(|terms| terms.from <= at).filter(|terms| terms.until.is_none_or(|until| at < until))
    }

    /// Returns the most that a call of so many tokens can cost, at the dearest price that tokens of such a prompt can
    /// have; `None` if the model has no price then.
    #[must_use]
    pub fn most(
        &self,
        provider: ProviderKind,
        model: &str,
        (input, output): (u64, u64),
        tier: Option<ServiceTier>,
        at: Timestamp,
    ) -> Option<NanoUsd> {
        if provider == ProviderKind::Simulated {
            return Some(NanoUsd::ZERO);
        }
        let terms = self.terms(provider, model, at)?;
        let reached = terms.above.iter().filter(|(tokens, _)| input > *tokens).map(|(_, price)| price);
        let picos = std::iter::once(&terms.price).chain(reached).map(|price| {
            let Price { input: fresh, cached, cache_write, cache_write_1h, cache_write_12h, .. } = *price;
            let dearest =
                [fresh, cached, cache_write, cache_write_1h, cache_write_12h].into_iter().max().unwrap_or(fresh);
            i128::from(input) * i128::from(dearest) + i128::from(output) * i128::from(price.output)
        });
        // The call may end in dearer hours.
        let peak = terms.peak.as_ref().map_or(1_000, |peak| peak.times.max(1_000));
        Some(nanos(picos.max().unwrap_or(0), terms.tier(tier).max(1_000), peak))
    }

    /// Returns the cost of a call that ended at `at`; `None` if the model has no price then. What the provider says that
    /// it charged wins. Tokens read from or written to the provider's cache are charged at their own price instead of
    /// the input price. The sum is rounded once, half up.
    #[must_use]
    pub fn cost(&self, provider: ProviderKind, model: &str, usage: &Usage, at: Timestamp) -> Option<NanoUsd> {
        if provider == ProviderKind::Simulated {
            return Some(NanoUsd::ZERO);
        }
        if let Some(charged) = usage.charged {
            return Some(charged);
        }
        let terms = self.terms(provider, model, at)?;
        let longest = terms.above.iter().rev().find(|(tokens, _)| usage.input_tokens > *tokens);
        let price = longest.map_or(terms.price, |(_, price)| *price);
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
            (part(usage.cache_write_12h_tokens), price.cache_write_12h),
            (fresh, price.input),
            (usage.output_tokens, price.output),
        ];
        let picos: i128 = charged.iter().map(|(tokens, price)| i128::from(*tokens) * i128::from(*price)).sum();
        let peak = terms.peak.as_ref().filter(|peak| peak.holds(at)).map_or(1_000, |peak| peak.times);
        let tokens = nanos(picos, terms.tier(usage.tier), peak);
        Some(match usage.web_searches {
            0 => tokens,
            searches => tokens.plus(nanos(i128::from(searches) * i128::from(terms.web_search), 1_000, 1_000)),
        })
    }
}

/// Rounds trillionths of a dollar, times two factors in thousandths, to nano-dollars.
fn nanos(picos: i128, tier: i64, peak: i64) -> NanoUsd {
    let scale = 1_000 * 1_000_000;
    let scaled = picos.saturating_mul(i128::from(tier)).saturating_mul(i128::from(peak));
    NanoUsd(i64::try_from(scaled.saturating_add(scale / 2) / scale).unwrap_or(i64::MAX))
}

impl Terms {
    /// Returns the factor of a service tier, in thousandths.
    fn tier(&self, tier: Option<ServiceTier>) -> i64 {
        self.tiers.iter().find(|(known, _)| Some(*known) == tier).map_or(1_000, |(_, factor)| *factor)
    }
}

impl Peak {
    fn holds(&self, at: Timestamp) -> bool {
        let time = at.to_jiff().to_zoned(jiff::tz::TimeZone::UTC);
        let is_weekday = !matches!(time.weekday(), jiff::civil::Weekday::Saturday | jiff::civil::Weekday::Sunday);
        is_weekday && self.hours.iter().any(|(from, to)| (*from..*to).contains(&time.hour()))
    }
}

impl Entry {
    fn terms(&self, wrong: &impl Fn(String) -> InvalidPrices) -> Result<Terms, InvalidPrices> {
        let moment = |name: &str, text: &str| {
            day(text).ok_or_else(|| wrong(format!("`{name}` is `{text}`; expected a day such as 2026-11-25")))
        };
        let factor = |text: &String| {
            let nanos = NanoUsd::parse_usd(text).ok().filter(|nanos| nanos.0 % 1_000_000 == 0);
            nanos.map(|nanos| nanos.0 / 1_000_000).ok_or_else(|| wrong(format!("`{text}` is no factor such as 0.5")))
        };
        let longer = |above: &Above| {
            let writes = [&above.cache_write, &above.cache_write_1h, &above.cache_write_12h];
            Ok((above.tokens, price(&above.input, &above.output, above.cached.as_ref(), writes, wrong)?))
        };
        let writes = [&self.cache_write, &self.cache_write_1h, &self.cache_write_12h];
        let mut above = self.above.iter().map(longer).collect::<Result<Vec<_>, InvalidPrices>>()?;
        above.sort_by_key(|(tokens, _)| *tokens);
        let peak = match &self.peak {
            None => None,
            Some(peak) => Some(Peak { hours: peak.hours.clone(), times: factor(&peak.times)? }),
        };
        Ok(Terms {
            from: moment("from", &self.from)?,
            until: self.until.as_deref().map(|until| moment("until", until)).transpose()?,
            price: price(&self.input, &self.output, self.cached.as_ref(), writes, wrong)?,
            above,
            tiers: self.tiers.iter().map(|(tier, text)| Ok((*tier, factor(text)?))).collect::<Result<_, _>>()?,
            // Dollars per thousand are a billion trillionths for each.
            web_search: match &self.web_search {
                None => 0,
                Some(text) => amount("web_search", text, wrong)?.saturating_mul(1_000),
            },
            peak,
        })
    }
}

fn price(
    input: &str,
    output: &str,
    cached: Option<&String>,
    writes: [&Option<String>; 3],
    wrong: &impl Fn(String) -> InvalidPrices,
) -> Result<Price, InvalidPrices> {
    let input = amount("input", input, wrong)?;
    let or_input = |name: &str, text: Option<&String>| text.map_or(Ok(input), |text| amount(name, text, wrong));
    let [five_minutes, hour, twelve] = writes;
    Ok(Price {
        input,
        output: amount("output", output, wrong)?,
        cached: or_input("cached", cached)?,
        cache_write: or_input("cache_write", five_minutes.as_ref())?,
        cache_write_1h: or_input("cache_write_1h", hour.as_ref())?,
        cache_write_12h: or_input("cache_write_12h", twelve.as_ref())?,
    })
}

/// Returns dollars with six decimals as millionths.
fn amount(name: &str, text: &str, wrong: &impl Fn(String) -> InvalidPrices) -> Result<i64, InvalidPrices> {
    // Dollars with nine decimals: millionths are thousands of nano-dollars.
    NanoUsd::parse_usd(text)
        .ok()
        .filter(|nanos| nanos.0 % 1_000 == 0)
        .map(|nanos| nanos.0 / 1_000)
        .ok_or_else(|| wrong(format!("`{name}` is `{text}`; expected dollars per million tokens such as 2.50")))
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

    /// A table with everything that a price can have.
    fn rich() -> PriceTable {
        PriceTable::parse(
            r#"version = "t"
            [[prices]]
            provider = "openai"
            models = ["m"]
            from = "2026-01-01"
            until = "2027-01-01"
            source = "here"
            input = "2"
            cached = "0.1"
            cache_write = "2.5"
            cache_write_12h = "4"
            output = "10"
            tiers = { flex = "0.5", priority = "2" }
            web_search = "10"
            peak = { hours = [[1, 4]], times = "2" }
            [[prices.above]]
            tokens = 1000
            input = "4"
            cached = "0.2"
            output = "15""#,
        )
        .unwrap()
    }

    fn cost(usage: &Usage, at: &str) -> Option<i64> {
        let at = Timestamp::from_jiff(at.parse().unwrap());
        rich().cost(ProviderKind::Openai, "m", usage, at).map(|cost| cost.0)
    }

    /// A Monday at noon.
    const NOON: &str = "2026-11-30T12:00:00Z";

    #[test]
    fn long_prompts_cost_more_as_a_whole() {
        assert_eq!(cost(&usage(1_000, 10), NOON), Some(1_000 * 2_000 + 10 * 10_000));
        assert_eq!(cost(&usage(1_001, 10), NOON), Some(1_001 * 4_000 + 10 * 15_000));
        let cached = Usage { cached_tokens: 900, ..usage(1_001, 10) };
        assert_eq!(cost(&cached, NOON), Some(900 * 200 + 101 * 4_000 + 10 * 15_000), "cached tokens count");
    }

    #[test]
    fn tiers_searches_hours_and_what_was_charged_count() {
        let call = usage(100, 10);
        let standard = 100 * 2_000 + 10 * 10_000;
        assert_eq!(cost(&Usage { tier: Some(ServiceTier::Flex), ..call }, NOON), Some(standard / 2));
        assert_eq!(cost(&Usage { tier: Some(ServiceTier::Priority), ..call }, NOON), Some(standard * 2));
        assert_eq!(cost(&Usage { tier: Some(ServiceTier::Batch), ..call }, NOON), Some(standard), "an unknown tier");
        assert_eq!(cost(&Usage { web_searches: 3, ..call }, NOON), Some(standard + 3 * 10_000_000));
        assert_eq!(cost(&call, "2026-11-30T03:59:59Z"), Some(standard * 2));
        assert_eq!(cost(&call, "2026-11-30T04:00:00Z"), Some(standard));
        assert_eq!(cost(&call, "2026-11-29T03:00:00Z"), Some(standard), "a Sunday");
        assert_eq!(cost(&Usage { charged: Some(NanoUsd(7)), ..call }, NOON), Some(7));
        assert_eq!(cost(&call, "2027-01-01T00:00:00Z"), None, "the price has ended");
    }

    #[test]
    fn the_most_is_never_less_than_the_cost() {
        let at = Timestamp::from_jiff(NOON.parse().unwrap());
        for input in [0, 1, 999, 1_000, 1_001, 5_000] {
            for (cached, written) in [(0, 0), (input / 2, 0), (0, input), (input / 3, input / 2)] {
                for tier in [None, Some(ServiceTier::Flex), Some(ServiceTier::Priority)] {
                    let usage = Usage { cached_tokens: cached, cache_write_tokens: written, tier, ..usage(input, 50) };
                    let cost = rich().cost(ProviderKind::Openai, "m", &usage, at).unwrap();
                    let longer = [0, 700].map(|more| {
                        rich().most(ProviderKind::Openai, "m", (input + more, 50 + more), tier, at).unwrap()
                    });
                    assert!(longer.into_iter().all(|most| most >= cost), "{usage:?}");
                }
            }
        }
    }

    #[test]
    fn models_of_today_have_a_price() {
        let table = PriceTable::builtin();
        let input = |provider, model: &str| table.price(provider, model, NOW).map(|price| price.input);
        assert_eq!(input(ProviderKind::Openai, "gpt-6-luna"), Some(100_000));
        assert_eq!(input(ProviderKind::Anthropic, "claude-sonnet-5-5"), Some(2_000_000));
        assert_eq!(input(ProviderKind::Bedrock, "eu.anthropic.claude-opus-5-5"), Some(4_400_000));
        assert_eq!(input(ProviderKind::Openai, "gemini-4-carbon"), Some(2_000_000));
        let december = day("2026-12-01").unwrap();
        let price = table.price(ProviderKind::Openai, "gemini-4-carbon", december);
        assert_eq!(price.map(|price| price.input), Some(4_000_000));
    }
}
