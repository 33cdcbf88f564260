//! What is sent of what an agent's file asks for.

use super::{SamplingTaken, Traits};
use crate::agent::{Effort, SamplingParams, ToolChoice};

/// Parameters as they are sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Admitted {
    /// What is sent.
    pub params: SamplingParams,
    /// What is not, and why.
    pub left_out: Vec<LeftOut>,
}

/// A parameter of a file that is not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its key in the file.
    pub key: &'static str,
    /// Reason.
    pub reason: String,
}

impl Traits {
    /// Returns what is sent of these parameters: those that the model refuses are left out, an effort it does not have
    /// becomes the nearest one, and a limit above its largest answer becomes that.
    #[must_use]
    pub fn admit(&self, params: &SamplingParams) -> Admitted {
        let mut sent = params.clone();
        let mut left_out = Vec::new();
        let mut refuse = |key: &'static str, is_set: bool, reason: &str| {
            if is_set {
                left_out.push(LeftOut { key, reason: reason.to_owned() });
            }
            is_set
        };
        if let Some(effort) = params.reasoning {
            sent.reasoning = self.nearest(effort);
            if sent.reasoning != params.reasoning {
                let said = sent.reasoning.map_or("the model's default".to_owned(), |effort| format!("`{effort}`"));
                refuse("reasoning", true, &format!("the model does not take `{effort}`; {said} is used"));
            }
        }
        let samples = match self.sampling {
            SamplingTaken::Allowed => true,
            SamplingTaken::WithoutReasoning => sent.reasoning == Some(Effort::None),
            SamplingTaken::Refused => false,
        };
        let reason = match self.sampling {
            SamplingTaken::WithoutReasoning => "the model takes it only with `reasoning: none`",
            _ => "the model does not take it; `reasoning` and the prompt steer it instead",
        };
        if !samples {
            // The default is what happens anyway.
            let is_odd = |value: Option<f64>| value.is_some_and(|value| (value - 1.0).abs() > f64::EPSILON);
            refuse("temperature", is_odd(params.temperature), reason);
            refuse("top_p", is_odd(params.top_p), reason);
            (sent.temperature, sent.top_p) = (None, None);
        }
        if !(self.top_k && (samples || self.sampling == SamplingTaken::Allowed))
            && refuse("top_k", params.top_k.is_some(), "the model does not take it")
        {
            sent.top_k = None;
        }
        if !self.penalties {
            if refuse("frequency_penalty", params.frequency_penalty.is_some(), "the model does not take it") {
                sent.frequency_penalty = None;
            }
            if refuse("presence_penalty", params.presence_penalty.is_some(), "the model does not take it") {
                sent.presence_penalty = None;
            }
        }
        if !self.stop && refuse("stop_sequences", !params.stop_sequences.is_empty(), "the model does not take them") {
            sent.stop_sequences.clear();
        }
        if !self.seed && refuse("seed", params.seed.is_some(), "the model does not take it") {
            sent.seed = None;
        }
        if !self.verbosity && refuse("verbosity", params.verbosity.is_some(), "the model does not take it") {
            sent.verbosity = None;
        }
        let forced = params.tool_choice == Some(ToolChoice::Required);
        if !self.forced_tool_choice && refuse("tool_choice", forced, "the model cannot be forced to call a tool") {
            sent.tool_choice = None;
        }
        if let (Some(wanted), Some(most)) = (params.max_tokens, self.output)
            && refuse("max_tokens", wanted > most, &format!("the model's answers have at most {most} tokens"))
        {
            sent.max_tokens = Some(most);
        }
        Admitted { params: sent, left_out }
    }

    /// Returns the effort that the model takes instead of this one: the nearest that is as high, else the highest.
    fn nearest(&self, effort: Effort) -> Option<Effort> {
        if effort == Effort::None && !self.efforts.contains(&Effort::None) {
            // Where thinking cannot be switched off, the least of it comes nearest.
            return if self.thinking_off { Some(Effort::None) } else { self.efforts.iter().min().copied() };
        }
        let higher = self.efforts.iter().filter(|known| **known >= effort).min();
        higher.or_else(|| self.efforts.iter().max()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::ProviderKind;
    use crate::models::ModelTable;

    fn admitted(provider: ProviderKind, model: &str, params: &SamplingParams) -> (SamplingParams, Vec<&'static str>) {
        let admitted = ModelTable::builtin().of(provider, model).admit(params);
        (admitted.params, admitted.left_out.iter().map(|left| left.key).collect())
    }

    #[test]
    fn what_current_models_refuse_is_left_out_and_named() {
        let params = SamplingParams {
            temperature: Some(0.2),
            top_k: Some(5),
            stop_sequences: vec!["END".into()],
            max_tokens: Some(500_000),
            tool_choice: Some(ToolChoice::Required),
            ..SamplingParams::default()
        };
        let (sent, left_out) = admitted(ProviderKind::Anthropic, "claude-sonnet-5-5", &params);
        assert_eq!(left_out, ["temperature", "top_k", "tool_choice", "max_tokens"]);
        assert_eq!((sent.temperature, sent.max_tokens, sent.stop_sequences.len()), (None, Some(128_000), 1));
        let (_, left_out) = admitted(ProviderKind::Openai, "gpt-6-luna", &params);
        assert_eq!(left_out, ["temperature", "top_k", "stop_sequences", "max_tokens"]);
        let (sent, left_out) = admitted(ProviderKind::Openai, "qwen3:8b", &params);
        assert!(left_out.is_empty() && sent == params);
    }

    #[test]
    fn sampling_may_depend_on_the_effort() {
        let params = |reasoning| SamplingParams { temperature: Some(0.2), reasoning, ..SamplingParams::default() };
        let (sent, _) = admitted(ProviderKind::Openai, "gpt-6-luna", &params(Some(Effort::None)));
        assert_eq!(sent.temperature, Some(0.2));
        let (sent, _) = admitted(ProviderKind::Openai, "gpt-6-luna", &params(Some(Effort::Low)));
        assert_eq!(sent.temperature, None);
    }

    #[test]
    fn an_effort_becomes_the_nearest_one() {
        for (model, asked, expected) in [
            ("gpt-6-luna", Effort::Minimal, Effort::Low),
            ("gpt-6-luna", Effort::Max, Effort::Max),
            ("gpt-6.2-sol", Effort::None, Effort::None),
            ("o3", Effort::None, Effort::Low),
            ("gpt-5.2", Effort::Max, Effort::Xhigh),
            ("gpt-5-mini", Effort::None, Effort::Minimal),
        ] {
            let params = SamplingParams { reasoning: Some(asked), ..SamplingParams::default() };
            let (sent, _) = admitted(ProviderKind::Openai, model, &params);
            assert_eq!(sent.reasoning, Some(expected), "{model} {asked}");
        }
    }
}
