//! Warnings about a model: what it refuses of a file, and its retirement.

use std::collections::HashMap;

use agentry_core::agent::{BudgetConfig, LlmConfig, LlmTarget, ProviderKind, SamplingParams, Unpriced};
use agentry_core::chat::Usage;

use super::check::Checker;
use super::raw;
use super::read::At;
use crate::yaml::Span;

/// Returns the places of parameters that a model may refuse.
pub(super) fn spans(raw: &raw::Llm) -> HashMap<&'static str, Span> {
    fn at<T>(value: Option<&At<T>>) -> Option<Span> {
        value.map(|value| value.span)
    }
    let places = [
        ("temperature", at(raw.temperature.as_ref())),
        ("max_tokens", at(raw.max_tokens.as_ref())),
        ("top_p", at(raw.top_p.as_ref())),
        ("top_k", at(raw.top_k.as_ref())),
        ("frequency_penalty", at(raw.frequency_penalty.as_ref())),
        ("presence_penalty", at(raw.presence_penalty.as_ref())),
        ("reasoning", at(raw.reasoning.as_ref())),
        ("verbosity", at(raw.verbosity.as_ref())),
        ("tool_choice", at(raw.tool_choice.as_ref())),
    ];
    places.into_iter().filter_map(|(key, span)| Some((key, span?))).collect()
}

/// Names the parameters that will not be sent to the model: a warning, or an error with `strict_parameters`.
pub(super) fn left_out(
    target: &LlmTarget,
    params: &SamplingParams,
    spans: &HashMap<&'static str, Span>,
    model: &Place,
    cx: &mut Checker<'_, '_, '_>,
) {
    for left in cx.tables.models.of(target.provider, &target.model).admit(params).left_out {
        let span = spans.get(left.key).copied().unwrap_or(model.span);
        let message = format!("`{}` is not sent to `{}`: {}", left.key, model.id, left.reason);
        if params.strict_parameters {
            cx.wrong_with_help(span, message, "refused by the model", "remove it, or `strict_parameters`");
        } else {
            cx.warn(span, message, "left out");
        }
    }
}

/// Warns of a model that has retired or will soon.
pub(super) fn retirement(provider: ProviderKind, model: &At<Box<str>>, cx: &mut Checker<'_, '_, '_>) {
    let traits = cx.tables.models.of(provider, &model.value);
    if let Some(notice) = traits.retirement_notice(&model.quoted(), cx.now) {
        cx.warn(model.span, notice, if traits.is_retired(cx.now) { "retired" } else { "retiring" });
    }
}

/// A model of a file.
pub(super) struct Place {
    /// Its id as the file has it: the value of a variable is not repeated.
    id: String,
    span: Span,
    /// False if a variable that is not set hides the id.
    is_known: bool,
}

/// Returns the models of a file, first the one that is called first.
pub(super) fn places(raw: &raw::Llm) -> Vec<Place> {
    let fallback = raw.fallback.iter().flatten().map(|other| &other.model);
    let place = |model: &At<Box<str>>| Place {
        id: model.quoted(),
        span: model.span,
        is_known: !model.is_unknown() && !model.value.contains("${"),
    };
    std::iter::once(&raw.model).chain(fallback).map(place).collect()
}

/// Refuses a limit in dollars on a model without a price: it could not be kept.
pub(super) fn unpriced(llm: &LlmConfig, budget: &BudgetConfig, places: &[Place], cx: &mut Checker<'_, '_, '_>) {
    if budget.unpriced == Unpriced::Allow || (budget.per_task.is_none() && budget.per_day.is_none()) {
        return;
    }
    for (target, place) in std::iter::once(&llm.target).chain(&llm.fallback).zip(places) {
        let cost = cx.tables.prices.cost(target.provider, &target.model, &Usage::default(), cx.now);
        if cost.is_none() && place.is_known {
            cx.wrong_with_help(
                place.span,
                format!("`{}` has no price, so `budget` cannot be kept", place.id),
                "its cost is not known",
                "put its price into a price file (setting `usage.prices`), or set `unpriced: allow` in `budget`",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::validate_text;

    fn messages(llm: &str, more: &str) -> Vec<String> {
        let text = format!("name: a\nexecution_mode: autonomous\nsystem_prompt: x\nllm_config: {{{llm}}}\n{more}\n");
        let says = |problem: &crate::Problem| format!("{}: {problem}", problem.is_error());
        validate_text("a.yml", &text).iter().map(says).collect()
    }

    #[test]
    fn a_limit_in_dollars_needs_a_price() {
        let unknown = "provider: openai, model: local-7b";
        let found = messages(unknown, "budget: {per_day_usd: 1}");
        assert!(found[0].starts_with("true: ") && found[0].contains("`local-7b` has no price"), "{found:?}");
        assert!(found[0].contains("unpriced: allow"), "{found:?}");
        assert_eq!(messages(unknown, "budget: {per_day_usd: 1, unpriced: allow}"), [""; 0]);
        assert_eq!(messages(unknown, "budget: {max_llm_calls: 1}"), [""; 0]);
        let fallback = "provider: simulated, model: a, fallback: [{provider: ollama, model: b}]";
        assert!(messages(fallback, "budget: {per_task_usd: 1}")[0].contains("`b` has no price"));
    }

    #[test]
    fn a_parameter_that_is_left_out_is_a_warning_or_an_error() {
        let sampled = "provider: anthropic, model: claude-sonnet-5-5, temperature: 0.2";
        let found = messages(sampled, "");
        let expected = "`temperature` is not sent to `claude-sonnet-5-5`";
        assert!(found[0].starts_with("false: ") && found[0].contains(expected), "{found:?}");
        let strict = messages(&format!("{sampled}, strict_parameters: true"), "");
        assert!(strict[0].starts_with("true: ") && strict[0].contains(expected), "{strict:?}");
    }

    #[test]
    fn a_model_that_retired_is_named_with_its_successor() {
        let found = messages("provider: anthropic, model: claude-3-7-sonnet", "");
        assert!(found[0].contains("retired on 2026-02-19; use claude-sonnet-5-5"), "{found:?}");
    }

    #[test]
    fn keys_of_the_model_beside_it_are_sent_there() {
        let found = messages("provider: simulated, model: a", "temperature: 0.2");
        assert!(found[0].contains("it belongs to `llm_config`"), "{found:?}");
    }
}
