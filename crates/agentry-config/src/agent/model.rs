//! Warnings about a model: what it refuses of a file, and its retirement.

use std::collections::HashMap;
use std::time::Duration;

use agentry_core::agent::{LlmTarget, ProviderKind, SamplingParams};
use agentry_core::models::ModelTable;

use super::check::Checker;
use super::raw;
use super::read::At;
use crate::yaml::Span;

/// Time before a model's retirement from which on it is told.
const NOTICE: Duration = Duration::from_secs(90 * 86_400);

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
    model: Span,
    cx: &mut Checker<'_, '_, '_>,
) {
    for left in ModelTable::shipped().of(target.provider, &target.model).admit(params).left_out {
        let span = spans.get(left.key).copied().unwrap_or(model);
        let message = format!("`{}` is not sent to `{}`: {}", left.key, target.model, left.reason);
        if params.strict_parameters {
            cx.wrong_with_help(span, message, "refused by the model", "remove it, or `strict_parameters`");
        } else {
            cx.warn(span, message, "left out");
        }
    }
}

/// Warns of a model that has retired or will soon.
pub(super) fn retirement(provider: ProviderKind, model: &At<Box<str>>, cx: &mut Checker<'_, '_, '_>) {
    let traits = ModelTable::shipped().of(provider, &model.value);
    let Some(day) = traits.retires.filter(|day| day.before(NOTICE) <= cx.now) else { return };
    let (date, is_over) = (day.to_jiff().strftime("%Y-%m-%d"), day <= cx.now);
    let when = if is_over { "has retired on" } else { "retires on" };
    let instead = traits.successor.as_deref().map_or(String::new(), |model| format!("; use {model}"));
    cx.warn(
        model.span,
        format!("`{}` {when} {date}{instead}", model.value),
        if is_over { "retired" } else { "retiring" },
    );
}
