//! Parameters that OpenAI's models refuse.

use serde_json::Value;

use crate::llm::wire::Refusal;

/// The name after the version, where it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::llm) enum Size {
    Sol,
    Luna,
    Astra,
    Terra,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::llm) struct Gpt {
    pub(in crate::llm) version: (u32, u32),
    /// The model is of the o-series.
    pub(in crate::llm) is_o: bool,
    pub(in crate::llm) size: Size,
}

/// Efforts of chat completions; Responses has `max` in addition.
const EFFORTS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
const UNSUPPORTED: &str = "unsupported_parameter";

/// When chat completions of a model take tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChatTools {
    Always,
    /// Only without an effort, or with the effort `none` (openai/openai-openapi#541, 2026-05-18).
    WithoutEffort,
    /// Only with the effort `none`.
    WithEffortNone,
    Never,
}

impl Gpt {
    fn reasons(self) -> bool {
        self.is_o || self.version >= (5, 0)
    }

    /// Returns true for models that bill what they write to their cache.
    pub(in crate::llm) fn bills_cache_writes(self) -> bool {
        !self.is_o && self.version >= (5, 6)
    }

    /// Returns true when the model reasons before it answers, at this effort.
    pub(in crate::llm) fn thinks(self, effort: Option<&str>) -> bool {
        self.reasons() && effort != Some("none")
    }

    fn chat_tools(self) -> ChatTools {
        match (self.version, self.size) {
            _ if self.is_o => ChatTools::Always,
            ((6, 0), Size::Sol | Size::Luna) | ((5, 6), _) => ChatTools::WithEffortNone,
            (version, _) if version >= (6, 0) => ChatTools::Never,
            ((5, 4 | 5), _) => ChatTools::WithoutEffort,
            _ => ChatTools::Always,
        }
    }

    /// Returns why the model refuses a chat completion, if it does.
    pub(in crate::llm) fn refuses_chat(self, id: &str, body: &Value) -> Option<Refusal> {
        let given = |name: &str| body.get(name).is_some_and(|value| !value.is_null());
        let effort = body.get("reasoning_effort").and_then(Value::as_str);
        if self.reasons() && given("max_tokens") {
            let text = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
            return Some(Refusal::bad(text).at("max_tokens").with_code(UNSUPPORTED));
        }
        if self.reasons() && given("stop") {
            return Some(unsupported("stop"));
        }
        if let Some(refusal) = self.effort(effort, "reasoning_effort") {
            return Some(refusal);
        }
        if effort == Some("max") {
            let text = "Unsupported value: 'max' is only supported in /v1/responses.";
            return Some(Refusal::bad(text).at("reasoning_effort").with_code("unsupported_value"));
        }
        let has_tools = body.get("tools").and_then(Value::as_array).is_some_and(|tools| !tools.is_empty());
        let takes_tools = match self.chat_tools() {
            ChatTools::Always => true,
            ChatTools::WithoutEffort => matches!(effort, None | Some("none")),
            ChatTools::WithEffortNone => effort == Some("none"),
            ChatTools::Never => false,
        };
        if has_tools && !takes_tools {
            let way = match self.chat_tools() {
                ChatTools::WithEffortNone => {
                    "To use function tools, use /v1/responses or set reasoning_effort to 'none'."
                }
                _ => "Please use /v1/responses instead.",
            };
            let text = format!(
                "Function tools with reasoning_effort are not supported for {id} in /v1/chat/completions. {way}"
            );
            return Some(Refusal::bad(text).at("reasoning_effort"));
        }
        self.sampling(body, effort)
    }

    /// Returns why the model refuses a response, if it does.
    pub(in crate::llm) fn refuses_response(self, body: &Value) -> Option<Refusal> {
        let effort = body.pointer("/reasoning/effort").and_then(Value::as_str);
        self.effort(effort, "reasoning.effort").or_else(|| self.sampling(body, effort))
    }

    fn effort(self, effort: Option<&str>, param: &str) -> Option<Refusal> {
        let effort = effort?;
        if !self.reasons() {
            return Some(unsupported(param));
        }
        if !EFFORTS.contains(&effort) {
            let text = format!("Invalid value: '{effort}'. Supported values are: '{}'.", EFFORTS.join("', '"));
            return Some(Refusal::bad(text).at(param).with_code("invalid_value"));
        }
        // Known of GPT-5.6: livekit/agents#7169 (2026-09-08).
        (effort == "minimal" && self.version >= (5, 6)).then(|| {
            let text = format!(
                "Unsupported value: '{param}' does not support 'minimal' with this model. Supported values are: 'none', \
                 'low', 'medium', 'high', 'xhigh'."
            );
            Refusal::bad(text).at(param).with_code("unsupported_value")
        })
    }

    /// Refuses sampling parameters other than the default of models that reason.
    fn sampling(self, body: &Value, effort: Option<&str>) -> Option<Refusal> {
        let takes = !self.reasons() || effort == Some("none") && self.version >= (5, 1) && self.version < (6, 2);
        if takes {
            return None;
        }
        let defaults = [("temperature", 1.0), ("top_p", 1.0), ("presence_penalty", 0.0), ("frequency_penalty", 0.0)];
        defaults.into_iter().find_map(|(name, default)| {
            let value = body.get(name)?.as_f64().filter(|value| (value - default).abs() > 1e-9)?;
            let text = format!(
                "Unsupported value: '{name}' does not support {value} with this model. Only the default ({default}) value \
                 is supported."
            );
            Some(Refusal::bad(text).at(name).with_code("unsupported_value"))
        })
    }
}

fn unsupported(name: &str) -> Refusal {
    let text = format!("Unsupported parameter: '{name}' is not supported with this model.");
    Refusal::bad(text).at(name).with_code(UNSUPPORTED)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::model::Model;
    use super::*;

    fn gpt(id: &str) -> Gpt {
        let Model::Gpt(gpt) = Model::of(id) else { panic!("{id} is no GPT") };
        gpt
    }

    fn table(rows: &[(Value, &str, &str, &str)], refuses: impl Fn(&str, &Value) -> Option<Refusal>) {
        for (body, takers, refusers, word) in rows {
            for id in takers.split_whitespace() {
                assert_eq!(refuses(id, body), None, "{id} {body}");
            }
            for id in refusers.split_whitespace() {
                let refusal = refuses(id, body).unwrap_or_else(|| panic!("{id} takes {body}"));
                assert!(refusal.message.contains(word), "{id} {body}: {}", refusal.message);
                assert!(refusal.param.is_some(), "{id} {body}");
            }
        }
    }

    #[test]
    fn each_model_refuses_of_chat_completions_what_the_documentation_says() {
        let rows = [
            (json!({"max_tokens": 9}), "gpt-4.1 gpt-4o", "gpt-5 gpt-5.4-mini gpt-6.2-sol o3", "max_completion_tokens"),
            (json!({"stop": ["x"]}), "gpt-4.1", "o3 gpt-5 gpt-6-luna", "'stop'"),
            (json!({"temperature": 0.2}), "gpt-4.1 gpt-4o-mini", "gpt-5.1 gpt-5.6-sol gpt-6.2-sol", "'temperature'"),
            (json!({"temperature": 1}), "gpt-5.1 gpt-6.2-sol", "", ""),
            (
                json!({"temperature": 0.2, "reasoning_effort": "none"}),
                "gpt-5.1 gpt-6.1-sol",
                "gpt-6.2-sol",
                "'temperature'",
            ),
            (json!({"presence_penalty": 0.5}), "gpt-4o", "gpt-5.5", "'presence_penalty'"),
            (json!({"reasoning_effort": "low"}), "gpt-5.1 o3", "gpt-4.1", "'reasoning_effort'"),
            (json!({"reasoning_effort": "wild"}), "", "gpt-5.1", "Invalid value"),
            (json!({"reasoning_effort": "max"}), "", "gpt-6-sol", "/v1/responses"),
            (
                json!({"tools": [{}]}),
                "gpt-4.1 gpt-5.1 gpt-5.4 o3",
                "gpt-5.6-sol gpt-6-sol gpt-6-luna gpt-6-astra gpt-6.1-terra gpt-6.2-sol",
                "/v1/responses",
            ),
            (
                json!({"tools": [{}], "reasoning_effort": "none"}),
                "gpt-5.6-sol gpt-6-sol gpt-6-luna",
                "gpt-6-astra gpt-6.1-sol gpt-6.2-astra",
                "/v1/responses",
            ),
            (
                json!({"tools": [{}], "reasoning_effort": "low"}),
                "gpt-5.1",
                "gpt-5.4 gpt-5.5 gpt-6-sol",
                "/v1/responses",
            ),
        ];
        table(&rows, |id, body| gpt(id).refuses_chat(id, body));
    }

    #[test]
    fn each_model_refuses_of_responses_what_the_documentation_says() {
        let rows = [
            (json!({"tools": [{}]}), "gpt-6.2-sol", "", ""),
            (json!({"temperature": 0.2}), "gpt-4.1", "gpt-6.2-sol", "'temperature'"),
            (json!({"top_p": 0.2, "reasoning": {"effort": "none"}}), "gpt-6.1-terra", "gpt-6.2-sol", "'top_p'"),
            (json!({"reasoning": {"effort": "max"}}), "gpt-6.2-sol", "gpt-4.1", "reasoning.effort"),
            (json!({"reasoning": {"effort": "minimal"}}), "gpt-5", "gpt-5.6-sol", "'minimal'"),
        ];
        table(&rows, |id, body| gpt(id).refuses_response(body));
    }
}
