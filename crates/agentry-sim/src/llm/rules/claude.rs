//! Parameters that Claude models refuse, the same at Anthropic and at Bedrock.

use serde_json::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::llm) enum Line {
    Opus,
    Sonnet,
    Haiku,
    Fable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::llm) struct Claude {
    pub(in crate::llm) line: Line,
    pub(in crate::llm) version: (u32, u32),
}

/// The parameters of a request, as the Messages API names them.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::llm) struct Parameters<'a> {
    pub(in crate::llm) temperature: Option<f64>,
    pub(in crate::llm) top_p: Option<f64>,
    pub(in crate::llm) has_top_k: bool,
    /// `thinking.type`.
    pub(in crate::llm) thinking: Option<&'a str>,
    /// `output_config.effort`.
    pub(in crate::llm) effort: Option<&'a str>,
    /// `tool_choice` is `any` or `tool`.
    pub(in crate::llm) is_forced: bool,
    /// The last message is the assistant's.
    pub(in crate::llm) is_prefilled: bool,
}

impl<'a> Parameters<'a> {
    /// Reads `thinking`, `output_config` and `top_k` of a body, or of Bedrock's `additionalModelRequestFields`.
    pub(in crate::llm) fn of(fields: &'a Value) -> Self {
        let word = |pointer: &str| fields.pointer(pointer).and_then(Value::as_str);
        let number = |key: &str| fields.get(key).and_then(Value::as_f64);
        Self {
            temperature: number("temperature"),
            top_p: number("top_p"),
            has_top_k: fields.get("top_k").is_some_and(|value| !value.is_null()),
            thinking: word("/thinking/type"),
            effort: word("/output_config/effort"),
            is_forced: matches!(word("/tool_choice/type"), Some("any" | "tool")),
            is_prefilled: false,
        }
    }
}

const EFFORTS: [&str; 5] = ["low", "medium", "high", "xhigh", "max"];
/// As told in can1357/oh-my-pi#12939 (2026-09-23).
const FORCED: &str = r#"tool_choice: type "tool" and "any" are not supported for this model."#;
const PREFILLED: &str =
    "This model does not support assistant message prefill. The conversation must end with a user message.";
const ENABLED: &str = "\"thinking.type.enabled\" is not supported for this model. Use \"thinking.type.adaptive\" and \
                       \"output_config.effort\" to control thinking behavior.";
const ADAPTIVE: &str = "adaptive thinking is not supported on this model";
const DISABLED: &str = "\"thinking.type.disabled\" is not supported for this model.";

impl Claude {
    /// Returns why the model refuses these parameters, if it does.
    pub(in crate::llm) fn refuses(self, asked: &Parameters<'_>) -> Option<String> {
        self.sampling(asked).or_else(|| self.thinking(asked)).or_else(|| self.effort(asked)).or_else(|| {
            if asked.is_forced && self.refuses_force() {
                return Some(FORCED.to_owned());
            }
            if asked.is_forced && asked.thinking == Some("enabled") {
                return Some("Thinking may not be enabled when tool_choice forces tool use.".to_owned());
            }
            (asked.is_prefilled && self.version >= (4, 6)).then(|| PREFILLED.to_owned())
        })
    }

    fn sampling(self, asked: &Parameters<'_>) -> Option<String> {
        if self.version < (4, 7) {
            return None;
        }
        if (self.line, self.version) == (Line::Haiku, (5, 5)) && asked.temperature.is_some() && asked.top_p.is_some() {
            return Some(
                "`temperature` and `top_p` cannot both be specified for this model. Please use only one.".to_owned(),
            );
        }
        let differs = |value: Option<f64>, defaults: &[f64]| {
            value.is_some_and(|value| !defaults.iter().any(|default| (value - default).abs() < 1e-9))
        };
        let top_p: &[f64] = if self.line == Line::Haiku { &[0.99] } else { &[0.99, 1.0] };
        let refused = [
            ("temperature", differs(asked.temperature, &[1.0])),
            ("top_p", differs(asked.top_p, top_p)),
            ("top_k", asked.has_top_k),
        ];
        let (name, _) = refused.into_iter().find(|(_, refused)| *refused)?;
        Some(format!("`{name}` is deprecated for this model."))
    }

    fn thinking(self, asked: &Parameters<'_>) -> Option<String> {
        let text = match asked.thinking? {
            "enabled" if self.version >= (4, 7) => ENABLED,
            "adaptive" if self.version <= (4, 5) => ADAPTIVE,
            "disabled" if self.always_thinks() => DISABLED,
            "disabled"
                if (self.line, self.version) == (Line::Opus, (5, 0))
                    && matches!(asked.effort, Some("xhigh" | "max")) =>
            {
                return Some(format!(
                    "\"thinking.type.disabled\" is not supported with \"output_config.effort\" \"{}\" for this model.",
                    asked.effort.unwrap_or_default()
                ));
            }
            "between_tools" if self.version < (5, 0) => {
                "thinking: Input tag 'between_tools' is none of 'enabled', 'disabled', 'adaptive'"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }

    fn effort(self, asked: &Parameters<'_>) -> Option<String> {
        let effort = asked.effort?;
        if !EFFORTS.contains(&effort) {
            return Some("output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'".to_owned());
        }
        // Only Opus has had it since 4.5; what came before had none.
        let has_none = self.version < (4, 5) || self.version == (4, 5) && self.line != Line::Opus;
        has_none.then(|| "This model does not support the effort parameter.".to_owned())
    }

    /// Returns true for models that refuse to be made to call a tool.
    fn refuses_force(self) -> bool {
        match self.line {
            Line::Fable => self.version >= (5, 1),
            Line::Opus | Line::Sonnet => self.version >= (5, 5),
            Line::Haiku => false,
        }
    }

    fn always_thinks(self) -> bool {
        self.line == Line::Fable || self.line != Line::Haiku && self.version >= (5, 5)
    }

    /// Returns true when the model reasons before it answers such a request.
    pub(in crate::llm) fn thinks(self, asked: &Parameters<'_>) -> bool {
        match asked.thinking {
            Some("disabled") => false,
            Some(_) => true,
            None => self.version >= (5, 0),
        }
    }

    /// Returns true for models that check what stands before a thinking block (accounts made since 2026-08-31).
    pub(in crate::llm) fn checks_prefix(self) -> bool {
        if self.line == Line::Fable { self.version >= (5, 1) } else { self.version >= (5, 5) }
    }

    /// Smallest prefix that is cached, in tokens. Haiku 5.5 is not documented and taken for Haiku 4.5.
    pub(in crate::llm) fn cache_minimum(self) -> u64 {
        match (self.line, self.version) {
            (Line::Opus | Line::Fable, version) if version >= (5, 0) => 512,
            (Line::Opus, (4, 7)) => 2_048,
            (Line::Opus, (4, 5 | 6)) | (Line::Haiku, _) => 4_096,
            _ => 1_024,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::model::Model;
    use super::*;

    fn refusal(id: &str, fields: &Value) -> Option<String> {
        let Model::Claude(claude) = Model::of(id) else { panic!("{id} is no Claude") };
        let prefilled = fields.get("prefilled").is_some();
        claude.refuses(&Parameters { is_prefilled: prefilled, ..Parameters::of(fields) })
    }

    /// Parameters, the models that take them, those that refuse them, and a word of the refusal.
    #[test]
    fn each_model_refuses_what_the_documentation_says() {
        let newest = "claude-opus-5-5 claude-sonnet-5-5 claude-fable-5-1 claude-fable-5-2";
        for (fields, takes, refuses, word) in [
            (
                json!({"temperature": 0.2}),
                "claude-opus-4-6 claude-haiku-4-5",
                "claude-opus-4-7 claude-sonnet-5 claude-haiku-5-5",
                "temperature",
            ),
            (json!({"temperature": 1.0}), "claude-opus-4-7 claude-haiku-5-5", "", ""),
            (json!({"top_p": 0.5}), "claude-sonnet-4-6", "claude-opus-5 claude-haiku-5-5", "top_p"),
            (json!({"top_k": 5}), "claude-opus-4-6", "claude-opus-5 claude-haiku-5-5", "top_k"),
            (json!({"temperature": 1, "top_p": 0.99}), "claude-opus-5", "claude-haiku-5-5", "both"),
            (
                json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}),
                "claude-opus-4-6 claude-haiku-4-5",
                "claude-opus-4-7 claude-sonnet-5",
                "thinking.type.enabled",
            ),
            (
                json!({"thinking": {"type": "adaptive"}}),
                "claude-opus-4-6 claude-opus-5-5",
                "claude-haiku-4-5 claude-opus-4-5",
                "adaptive",
            ),
            (
                json!({"thinking": {"type": "disabled"}}),
                "claude-opus-5 claude-haiku-5-5 claude-opus-4-8",
                &format!("{newest} claude-fable-5"),
                "thinking.type.disabled",
            ),
            (json!({"thinking": {"type": "between_tools"}}), newest, "claude-opus-4-8", "between_tools"),
            (
                json!({"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}}),
                "claude-opus-4-8",
                "claude-opus-5",
                "max",
            ),
            (
                json!({"output_config": {"effort": "xhigh"}}),
                "claude-opus-4-8 claude-haiku-5-5",
                "claude-haiku-4-5",
                "effort",
            ),
            (json!({"output_config": {"effort": "huge"}}), "", "claude-opus-5", "xhigh"),
            (
                json!({"tool_choice": {"type": "any"}}),
                "claude-haiku-5-5 claude-opus-5 claude-fable-5",
                newest,
                "tool_choice",
            ),
            (json!({"tool_choice": {"type": "auto"}}), newest, "", ""),
            (
                json!({"prefilled": true}),
                "claude-opus-4-5 claude-haiku-4-5",
                "claude-opus-4-6 claude-haiku-5-5",
                "prefill",
            ),
        ] {
            for id in takes.split_whitespace() {
                assert_eq!(refusal(id, &fields), None, "{id} {fields}");
            }
            for id in refuses.split_whitespace() {
                let text = refusal(id, &fields).unwrap_or_else(|| panic!("{id} takes {fields}"));
                assert!(text.contains(word), "{id} {fields}: {text}");
            }
        }
    }
}
