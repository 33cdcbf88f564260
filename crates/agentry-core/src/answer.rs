//! The last answer of a model: whether it is one, and the JSON in it.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::chat::{ChatReply, StopReason};
use crate::task::{ErrorCode, TaskError};

/// Characters of a cut answer that its error repeats.
const MAX_PARTIAL_CHARS: usize = 2_000;

/// Returns the problem of a value, in words that a model can act on.
type Check = dyn Fn(&Value) -> Option<String> + Send + Sync;

/// A JSON Schema that answers must fit, with the function that checks it.
#[derive(Clone)]
pub struct OutputForm {
    /// The schema.
    pub schema: Value,
    check: Arc<Check>,
}

impl OutputForm {
    /// Returns a form; `check` returns the problem of a value that does not fit `schema`.
    pub fn new(schema: Value, check: impl Fn(&Value) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { schema, check: Arc::new(check) }
    }

    /// Returns the JSON of an answer.
    ///
    /// # Errors
    /// Says why the answer is no JSON, or does not fit, in words that a model can act on.
    pub fn read(&self, answer: &str) -> Result<Value, String> {
        let value = json_of(answer).map_err(|error| format!("it is not JSON: {error}"))?;
        match (self.check)(&value) {
            None => Ok(value),
            Some(problem) => Err(problem),
        }
    }
}

impl fmt::Debug for OutputForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OutputForm").field(&self.schema).finish()
    }
}

/// Checks that an answer came to a natural end; the calls and the text of another are not used.
///
/// # Errors
/// The answer was cut, withheld, or ended for a reason that nobody knows.
pub fn ended(reply: &ChatReply) -> Result<(), TaskError> {
    let (code, message) = match reply.stop {
        StopReason::End | StopReason::ToolCalls | StopReason::Paused => return Ok(()),
        StopReason::Length => (ErrorCode::OutputTruncated, truncated(&reply.content)),
        StopReason::ContentFilter => (ErrorCode::Refused, "the provider withheld the answer".to_owned()),
        StopReason::ContextExceeded => (
            ErrorCode::ContextExceeded,
            "the conversation does not fit the model's context: shorten the input, or use a model with a larger one"
                .to_owned(),
        ),
        StopReason::Other => (
            ErrorCode::ProviderMalformedReply,
            format!("the answer of {} ended for a reason that is not a natural end", reply.model),
        ),
    };
    Err(TaskError::new(code, message))
}

fn truncated(partial: &str) -> String {
    let advice = "raise max_tokens of llm_config, or set `on_length: continue`";
    if partial.trim().is_empty() {
        return format!("the answer reached the limit of its length before its first word; {advice}");
    }
    let shown: String = partial.chars().take(MAX_PARTIAL_CHARS).collect();
    let more = if shown.len() < partial.len() { "…" } else { "" };
    format!("the answer was cut at the limit of its length; {advice}; it began: {shown}{more}")
}

/// Returns the JSON of an answer. Models put it between fences, after their thoughts, or into prose.
///
/// # Errors
/// No part of the answer is JSON; this is the error of the whole.
pub fn json_of(answer: &str) -> Result<Value, serde_json::Error> {
    let text = without_thoughts(answer).trim();
    let whole = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let fenced = fences(text).find_map(|inner| serde_json::from_str(inner.trim()).ok());
    let found = fenced.or_else(|| {
        let bounds = [('{', '}'), ('[', ']')].map(|(open, close)| Some((text.find(open)?, text.rfind(close)?)));
        let (start, end) = bounds.into_iter().flatten().filter(|(start, end)| start < end).min()?;
        serde_json::from_str(&text[start..=end]).ok()
    });
    found.ok_or(whole)
}

/// Leaves out `<think>…</think>` at the start, which models without a field for their reasoning write.
fn without_thoughts(answer: &str) -> &str {
    let text = answer.trim_start();
    match text.strip_prefix("<think>") {
        Some(thoughts) => thoughts.split_once("</think>").map_or("", |(_, rest)| rest),
        None => answer,
    }
}

/// Returns what stands between fences, without the name of its language.
fn fences(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").skip(1).step_by(2).map(|inner| inner.split_once('\n').map_or(inner, |(_language, body)| body))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_found_in_what_models_put_around_it() {
        let expected = json!({"answer": 12});
        for answer in [
            r#"{"answer": 12}"#,
            "\n  {\"answer\": 12}\n",
            "```json\n{\"answer\": 12}\n```",
            "```\n{\"answer\": 12}```",
            "Here it is:\n\n```json\n{\"answer\": 12}\n```\nAnything else?",
            "<think>\n{hm}\n</think>\n\n{\"answer\": 12}",
            "Sure! {\"answer\": 12} is the answer.",
            "`ls` gave ```text\nnothing\n``` so ```json\n{\"answer\": 12}\n```",
        ] {
            assert_eq!(json_of(answer).ok().as_ref(), Some(&expected), "{answer}");
        }
        assert_eq!(json_of("[1, {\"a\": 2}]").ok(), Some(json!([1, {"a": 2}])));
        assert_eq!(json_of("The list: [1, {\"a\": 2}].").ok(), Some(json!([1, {"a": 2}])));
        for answer in ["", "no", "{\"answer\": ", "<think>{\"answer\": 12}", "} {", "```json\n{\n```"] {
            assert!(json_of(answer).is_err(), "{answer}");
        }
    }

    #[test]
    fn a_value_that_does_not_fit_is_told() {
        let form = OutputForm::new(json!({}), |value| value.is_null().then(|| "it is null".to_owned()));
        assert_eq!(form.read("null"), Err("it is null".to_owned()));
        assert_eq!(form.read("1"), Ok(json!(1)));
        assert!(form.read("one").unwrap_err().contains("not JSON"));
    }
}
