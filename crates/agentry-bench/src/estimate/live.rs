//! Plan of `bench run --live`: its providers, its calls, and each provider's part of the budget. All of
//! it is decided before anything is sent.

use std::fmt;

use agentry_core::agent::ProviderKind;
use agentry_core::money::NanoUsd;
use agentry_core::prices::PriceTable;

use super::{UnpricedModel, estimate};
use crate::catalogue;
use crate::model::Profile;

/// The scenario that calls real providers.
pub const LIVE_SCENARIO: &str = "5.1-llm-latency";
/// Calls of each real provider in a second.
pub const LIVE_RATE: f64 = 1.0;
/// The wire protocols, each with a model that its provider has and sells.
pub const DEFAULT_MODELS: [(&str, &str); 4] = [
    ("openai", "gpt-6-luna"),
    ("anthropic", "claude-haiku-5-5"),
    ("bedrock", "amazon.nova-lite-v1:0"),
    ("ollama", "llama3.2"),
];
/// Least similarity of two words at which one is offered for the other.
const ALIKE: f64 = 0.7;

/// Calls of each real provider under a profile, at one a second also the seconds that they take. A p95 has an upper bound
/// from 59 answers on; `ci` has some to spare.
pub fn live_calls(profile: Profile) -> u32 {
    match profile {
        Profile::Quick => 10,
        Profile::Ci => 90,
        Profile::Standard => 300,
        Profile::Full => 1_200,
    }
}

/// A provider that is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveTarget {
    pub provider: ProviderKind,
    /// The provider's own id of the model.
    pub model: String,
    /// Estimated cost of one call, which is the most that it can be: every byte of the request is taken for a token,
    /// and `max_tokens` for the answer.
    pub each: NanoUsd,
    /// Most that all its calls may cost.
    pub estimate: NanoUsd,
    /// Its part of the budget; `None` of what costs nothing.
    pub share: Option<NanoUsd>,
}

impl LiveTarget {
    /// As `provider/model`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.provider, self.model)
    }
}

/// Providers to call, and their budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePlan {
    /// Models to call one after another, each of another provider.
    pub targets: Vec<LiveTarget>,
    pub calls: u32,
    /// The most that all of them may spend.
    pub budget: NanoUsd,
}

impl LivePlan {
    /// A plan whose estimate fits into the budget, which is split in the proportions of the estimates.
    pub fn new(
        chosen: Vec<(ProviderKind, String)>,
        profile: Profile,
        budget: NanoUsd,
        prices: &PriceTable,
    ) -> Result<Self, LiveRefusal> {
        let calls = live_calls(profile);
        let only: Vec<_> = catalogue::scenario(LIVE_SCENARIO).into_iter().collect();
        let mut targets = Vec::new();
        for (provider, model) in chosen {
            let estimate =
                estimate(profile, provider, &model, &only, prices).map_err(LiveRefusal::UnpricedModel)?.cost();
            let each = NanoUsd((estimate.0 + i64::from(calls) - 1) / i64::from(calls));
            targets.push(LiveTarget { provider, model, each, estimate, share: None });
        }
        let mut plan = Self { targets, calls, budget };
        if plan.estimate() > budget {
            return Err(LiveRefusal::TooLittle { plan: Box::new(plan), profile });
        }
        plan.split();
        Ok(plan)
    }

    /// Returns the most that all calls may cost.
    pub fn estimate(&self) -> NanoUsd {
        self.targets.iter().fold(NanoUsd::ZERO, |sum, target| sum.plus(target.estimate))
    }

    /// Gives every target that costs something its share; together they are the budget to the billionth of a dollar.
    fn split(&mut self) {
        let (all, budget) = (self.estimate(), self.budget);
        let mut left = budget;
        for target in self.targets.iter_mut().filter(|target| target.estimate > NanoUsd::ZERO) {
            let share = i128::from(budget.0) * i128::from(target.estimate.0) / i128::from(all.0);
            let share = NanoUsd(i64::try_from(share).unwrap_or(budget.0));
            left = NanoUsd(left.0 - share.0);
            target.share = Some(share);
        }
        // What rounding has left.
        if let Some(share) = self.targets.iter_mut().find_map(|target| target.share.as_mut()) {
            *share = share.plus(left);
        }
    }
}

impl fmt::Display for LivePlan {
    /// Names the models, with the estimate and the budget.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.targets.iter().map(LiveTarget::name).collect();
        let (estimate, budget) = (self.estimate(), self.budget);
        write!(
            f,
            "live: {} calls of {}, at most {estimate} of a budget of {budget}",
            self.calls,
            names.join(" and of ")
        )
    }
}

/// Reason why no real provider is called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LiveRefusal {
    /// No provider is named, and the environment has no credentials.
    #[error("--live finds no credentials of any provider in the environment")]
    NoCredentials,
    /// This provider is named, and the environment has no credentials for it.
    #[error("--model names {provider}, and {variable} is not set")]
    NoKey {
        provider: ProviderKind,
        /// Variable that should hold the key.
        variable: &'static str,
    },
    /// It is not PROVIDER=MODEL.
    #[error("--model `{0}` is not PROVIDER=MODEL")]
    NoModel(String),
    /// There is no such provider.
    #[error("--model names an unknown provider `{asked}`")]
    UnknownProvider { asked: String, meant: Option<&'static str> },
    /// A provider is named more than once.
    #[error("--model names {0} twice")]
    Twice(ProviderKind),
    /// A model has no price.
    #[error(transparent)]
    UnpricedModel(UnpricedModel),
    /// The budget does not hold the estimate.
    #[error("the calls may cost {}, and the budget is {}", plan.estimate(), plan.budget)]
    TooLittle { plan: Box<LivePlan>, profile: Profile },
}

impl LiveRefusal {
    /// Returns the remedy.
    pub fn help(&self) -> String {
        match self {
            Self::NoCredentials => {
                "set OPENAI_API_KEY, ANTHROPIC_API_KEY, the AWS credentials of Bedrock or OLLAMA_HOST, or \
                                    name what to call with --model PROVIDER=MODEL"
                    .to_owned()
            }
            Self::NoKey { variable, .. } => format!("set {variable}"),
            Self::NoModel(_) => "as in --model openai=gpt-6-luna".to_owned(),
            Self::UnknownProvider { meant: Some(meant), .. } => format!("did you mean `{meant}`?"),
            Self::UnknownProvider { meant: None, .. } => {
                format!("expected one of {}", DEFAULT_MODELS.map(|(provider, _)| provider).join(", "))
            }
            Self::Twice(_) => "one model of each provider is measured in a run".to_owned(),
            Self::UnpricedModel(unpriced) => {
                let begins = format!("{}/", unpriced.provider);
                let own: Vec<&str> = unpriced.priced.iter().filter_map(|model| model.strip_prefix(&begins)).collect();
                format!("choose another with --model {}=MODEL; priced are: {}", unpriced.provider, own.join(", "))
            }
            Self::TooLittle { plan, profile } => {
                let of = |target: &LiveTarget| format!("{} {}", target.name(), target.estimate);
                let parts: Vec<String> = plan.targets.iter().map(of).collect();
                format!(
                    "{} calls each: {}; raise --budget, or choose cheaper models or a shorter profile (`agentry bench estimate \
                     5.1 --profile {profile}` has the tokens behind it)",
                    plan.calls,
                    parts.join(", ")
                )
            }
        }
    }
}

/// Selects the models: those of `--model`, else the default model of every provider with credentials.
///
/// `is_set`: whether a variable of the environment is set and not empty.
pub fn choose(named: &[String], is_set: impl Fn(&str) -> bool) -> Result<Vec<(ProviderKind, String)>, LiveRefusal> {
    if named.is_empty() {
        let known =
            DEFAULT_MODELS.into_iter().filter_map(|(name, model)| Some((provider(name).ok()?, model.to_owned())));
        let chosen: Vec<_> = known.filter(|(provider, _)| has_credentials(*provider, &is_set)).collect();
        return if chosen.is_empty() { Err(LiveRefusal::NoCredentials) } else { Ok(chosen) };
    }
    let mut chosen: Vec<(ProviderKind, String)> = Vec::new();
    for text in named {
        let (name, model) = text.split_once('=').unwrap_or((text, ""));
        let provider = provider(name.trim())?;
        if model.trim().is_empty() {
            return Err(LiveRefusal::NoModel(shown(text)));
        }
        if chosen.iter().any(|(known, _)| *known == provider) {
            return Err(LiveRefusal::Twice(provider));
        }
        must_have_key(provider, &is_set)?;
        chosen.push((provider, model.trim().to_owned()));
    }
    Ok(chosen)
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// A provider that can be called live, by its word.
fn provider(asked: &str) -> Result<ProviderKind, LiveRefusal> {
    let real = || ProviderKind::ALL.into_iter().filter(|kind| kind.leaves_process());
    real().find(|kind| kind.as_str() == asked).ok_or_else(|| {
        let likeness = |kind: ProviderKind| (strsim::jaro_winkler(kind.as_str(), asked), kind.as_str());
        let best = real().map(likeness).max_by(|a, b| a.0.total_cmp(&b.0));
        let meant = best.filter(|(alike, _)| *alike >= ALIKE).map(|(_, word)| word);
        LiveRefusal::UnknownProvider { asked: shown(asked), meant }
    })
}

/// Whether the environment has what the provider wants. Of Bedrock's credentials those that are in a file or come from the
/// machine are used when Bedrock is named, and are no reason to call it.
fn has_credentials(provider: ProviderKind, is_set: &impl Fn(&str) -> bool) -> bool {
    match provider {
        ProviderKind::Openai => is_set("OPENAI_API_KEY"),
        ProviderKind::Anthropic => is_set("ANTHROPIC_API_KEY"),
        ProviderKind::Bedrock => {
            let pair = is_set("AWS_ACCESS_KEY_ID") && is_set("AWS_SECRET_ACCESS_KEY");
            pair || is_set("AWS_BEARER_TOKEN_BEDROCK") || is_set("AWS_PROFILE")
        }
        ProviderKind::Ollama => is_set("OLLAMA_HOST"),
        ProviderKind::Simulated => false,
    }
}

/// A provider that is named needs a key, unless it is asked at an address of its own.
fn must_have_key(provider: ProviderKind, is_set: &impl Fn(&str) -> bool) -> Result<(), LiveRefusal> {
    let (variable, elsewhere) = match provider {
        ProviderKind::Openai => ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
        ProviderKind::Anthropic => ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
        _ => return Ok(()),
    };
    if is_set(variable) || is_set(elsewhere) { Ok(()) } else { Err(LiveRefusal::NoKey { provider, variable }) }
}

/// The variables of the environment that calls of a provider need (docs/providers.md): keys, addresses, regions.
pub fn variables(provider: ProviderKind) -> &'static [&'static str] {
    match provider {
        ProviderKind::Openai => &["OPENAI_API_KEY", "OPENAI_BASE_URL"],
        ProviderKind::Anthropic => &["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"],
        ProviderKind::Bedrock => &[
            "AWS_BEARER_TOKEN_BEDROCK",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_PROFILE",
            "AWS_SHARED_CREDENTIALS_FILE",
            "AWS_CONFIG_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            "AWS_EC2_METADATA_DISABLED",
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME",
            "AWS_REGION",
            "AWS_DEFAULT_REGION",
        ],
        ProviderKind::Ollama => &["OLLAMA_HOST", "OLLAMA_API_KEY"],
        ProviderKind::Simulated => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With these variables set.
    fn with(named: &[&str], set: &[&str]) -> Result<Vec<(ProviderKind, String)>, LiveRefusal> {
        let named: Vec<String> = named.iter().map(|text| (*text).to_owned()).collect();
        choose(&named, |variable| set.contains(&variable))
    }

    fn plan(named: &[&str], profile: Profile, usd: &str) -> Result<LivePlan, LiveRefusal> {
        let chosen = with(named, &["OPENAI_API_KEY", "ANTHROPIC_API_KEY"]).unwrap();
        LivePlan::new(chosen, profile, NanoUsd::parse_usd(usd).unwrap(), &PriceTable::builtin())
    }

    #[test]
    fn live_calls_go_to_whom_the_environment_has_credentials_for() {
        let found = |set: &[&str]| with(&[], set).map(|all| all.into_iter().map(|(kind, _)| kind).collect::<Vec<_>>());
        assert_eq!(found(&["OPENAI_API_KEY"]), Ok(vec![ProviderKind::Openai]));
        assert_eq!(
            found(&["OLLAMA_HOST", "ANTHROPIC_API_KEY"]),
            Ok(vec![ProviderKind::Anthropic, ProviderKind::Ollama])
        );
        assert_eq!(found(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]), Ok(vec![ProviderKind::Bedrock]));
        assert_eq!(found(&["AWS_ACCESS_KEY_ID", "OPENAI_BASE_URL"]), Err(LiveRefusal::NoCredentials));
    }

    #[test]
    fn live_models_that_cannot_be_called_are_refused_with_a_way_out() {
        let keys = ["OPENAI_API_KEY"];
        let help = |named: &[&str]| with(named, &keys).unwrap_err().help();
        assert_eq!(with(&["openai=m"], &keys).unwrap(), [(ProviderKind::Openai, "m".to_owned())]);
        assert_eq!(help(&["opnai=m"]), "did you mean `openai`?");
        assert_eq!(help(&["zzz=m"]), "expected one of openai, anthropic, bedrock, ollama");
        assert!(help(&["simulated=echo"]).contains("openai"));
        assert!(help(&["openai="]).contains("openai=gpt-6-luna") && help(&["openai"]).contains("openai=gpt-6-luna"));
        assert_eq!(with(&["openai=a", "openai=b"], &keys), Err(LiveRefusal::Twice(ProviderKind::Openai)));
        assert_eq!(help(&["anthropic=m"]), "set ANTHROPIC_API_KEY");
        assert!(with(&["anthropic=m"], &["ANTHROPIC_BASE_URL"]).is_ok() && with(&["ollama=m"], &[]).is_ok());
    }

    #[test]
    fn every_live_default_has_a_price_or_costs_nothing() {
        let chosen = DEFAULT_MODELS.map(|(name, model)| (provider(name).unwrap(), model.to_owned()));
        let plan = LivePlan::new(chosen.into(), Profile::Ci, NanoUsd(1_000_000_000), &PriceTable::builtin()).unwrap();
        let ollama = plan.targets.iter().find(|target| target.provider == ProviderKind::Ollama).unwrap();
        assert_eq!((ollama.estimate, ollama.share), (NanoUsd::ZERO, None));
        assert!(plan.targets.iter().filter(|target| target.share.is_some()).count() == 3, "{plan:?}");
    }

    #[test]
    fn shares_of_a_live_budget_hold_their_estimates_and_sum_to_it() {
        for usd in ["0.50", "0.100000007", "3"] {
            let plan = plan(&["openai=gpt-6-luna", "anthropic=claude-haiku-5-5"], Profile::Ci, usd).unwrap();
            let shares: Vec<NanoUsd> = plan.targets.iter().filter_map(|target| target.share).collect();
            assert_eq!(shares.iter().map(|share| share.0).sum::<i64>(), plan.budget.0, "{usd}");
            assert!(plan.targets.iter().all(|target| target.share >= Some(target.estimate)), "{plan:?}");
        }
    }

    #[test]
    fn a_live_budget_that_just_holds_the_estimate_is_taken_and_a_billionth_less_is_not() {
        let whole = plan(&["openai=gpt-6-luna"], Profile::Quick, "1").unwrap().estimate();
        let usd = |nanos: i64| format!("0.{nanos:09}");
        let just = plan(&["openai=gpt-6-luna"], Profile::Quick, &usd(whole.0)).unwrap();
        assert_eq!(just.targets[0].share, Some(whole));
        let refused = plan(&["openai=gpt-6-luna"], Profile::Quick, &usd(whole.0 - 1)).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains(&whole.to_string()) && text.contains(&NanoUsd(whole.0 - 1).to_string()), "{text}");
        assert!(refused.help().contains("bench estimate 5.1 --profile quick"), "{}", refused.help());
    }

    #[test]
    fn a_live_model_without_a_price_is_refused() {
        let refused = plan(&["openai=gpt-unknown"], Profile::Quick, "1").unwrap_err();
        assert!(refused.to_string().contains("gpt-unknown") && refused.help().contains("gpt-6-luna"));
        assert!(!refused.help().contains("claude"), "{}", refused.help());
    }
}
