//! `bench estimate`: the price of a run against live providers.

use agentry_core::agent::ProviderKind;
use agentry_core::prices::PriceTable;
use clap::Args;

use super::{BenchError, Outcome};
use crate::catalogue;
use crate::estimate::{estimate as compute, text};
use crate::model::Profile;

/// `bench estimate`.
#[derive(Debug, Args)]
pub struct EstimateArgs {
    /// How long the windows are
    #[arg(long, value_enum, default_value_t = Profile::Ci)]
    pub profile: Profile,
    /// The provider: openai, anthropic, bedrock, ollama
    #[arg(long, default_value = "openai", value_name = "NAME")]
    pub provider: String,
    /// The model, as its price list names it
    #[arg(long, default_value = "gpt-6-luna", value_name = "ID")]
    pub model: String,
    /// Only these scenarios
    #[arg(value_name = "SCENARIO")]
    pub scenarios: Vec<String>,
}

/// Estimates a run.
pub fn estimate(args: &EstimateArgs) -> Result<Outcome, BenchError> {
    let only = args.scenarios.iter().map(|asked| catalogue::scenario(asked)).collect::<Result<Vec<_>, _>>()?;
    let provider = ProviderKind::ALL.into_iter().find(|kind| kind.as_str() == args.provider).ok_or_else(|| {
        let known = ProviderKind::ALL.map(ProviderKind::as_str).join(", ");
        BenchError::usage(format!("unknown provider `{}`", args.provider)).help(format!("expected one of {known}"))
    })?;
    let prices = PriceTable::builtin();
    let done = compute(args.profile, provider, &args.model, &only, &prices)
        .map_err(|error| BenchError::new(error.to_string()).help(error.help()))?;
    Ok(Outcome::ok(text(&done)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(provider: &str, model: &str, scenarios: &[&str]) -> EstimateArgs {
        EstimateArgs {
            profile: Profile::Ci,
            provider: provider.to_owned(),
            model: model.to_owned(),
            scenarios: scenarios.iter().map(|s| (*s).to_owned()).collect(),
        }
    }

    #[test]
    fn what_is_unknown_is_named_with_a_way_out() {
        assert!(estimate(&args("openai", "gpt-6-luna", &[])).unwrap().text.contains('$'));
        let help = |args: EstimateArgs| estimate(&args).unwrap_err().help.unwrap();
        assert!(help(args("opnai", "x", &[])).contains("openai"));
        assert!(help(args("openai", "gpt-x", &[])).contains("openai/gpt-6-luna"));
        assert!(help(args("openai", "gpt-6-luna", &["6.1-slak"])).contains("6.1-slack"));
    }
}
