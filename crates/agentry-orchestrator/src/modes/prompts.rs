//! Prompts that the platform itself adds. Short and plain; agents' own prompts come from their files.

use std::fmt::Write as _;

use agentry_core::agent::{AgentSpec, CollaborativeConfig, PlanningStrategy};
use agentry_core::chat::Message;
use agentry_core::plan::{PlanRun, PlanStep};
use serde_json::Value;

/// Returns the text of a JSON value: a string as it is, anything else as JSON.
pub(super) fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Returns the system message of the planning call.
pub(super) fn planner(spec: &AgentSpec, config: &CollaborativeConfig, team: &[&AgentSpec]) -> String {
    let strategy = match config.planning_strategy {
        PlanningStrategy::Hierarchical => "Divide the request into steps, as parallel as their dependencies allow.",
        PlanningStrategy::Consensus => {
            "Give the whole request to several agents side by side; their answers are weighed later."
        }
        PlanningStrategy::Sequential => "Divide the request into steps that follow one another.",
    };
    let mut text = format!(
        "{}\n\nYou plan work for a team. {strategy} Use at most {} steps. Answer with JSON only: \
         {{\"steps\": [{{\"id\", \"agent\", \"task\", \"depends_on\": [ids]}}]}}.\n\nThe team:\n",
        spec.system_text(),
        config.max_plan_steps
    );
    for member in team {
        let what = member.description.as_deref().unwrap_or("no description");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "- {}: {what}", member.name);
    }
    text
}

/// Returns the message that rejects a bad plan.
pub(super) fn repair(problems: &[String]) -> String {
    format!("That plan cannot be used:\n- {}\nAnswer with a corrected plan, JSON only.", problems.join("\n- "))
}

/// Returns the system message of a step: the agent's prompt, and the whole request as context.
pub(super) fn step_system(spec: &AgentSpec, request: &str) -> String {
    format!(
        "{}\n\nYou do one step of a larger request. The whole request, for context only:\n{request}",
        spec.system_text()
    )
}

/// Returns the input of a step: its task, and the results that it depends on.
pub(super) fn step(run: &PlanRun, step: &PlanStep) -> String {
    let mut text = step.task.clone();
    for (id, output) in run.inputs(step) {
        let _ = write!(text, "\n\nResult of step `{id}`:\n{}", text_of(&output));
    }
    text
}

/// Returns the input of the aggregation.
pub(super) fn aggregate(run: &PlanRun, request: &str) -> String {
    let mut text = format!("Answer this request from the results of the team's steps:\n{request}\n");
    for step in &run.plan().steps {
        if let Some(output) = run.output(&step.id) {
            let _ = write!(text, "\nStep `{}` by {}:\n{}\n", step.id, step.agent, text_of(&output));
        }
    }
    text
}

/// Returns the messages of a summary call.
pub(super) fn summarise(before: Option<&str>, older: &[Message]) -> Vec<Message> {
    let mut text = String::new();
    if let Some(before) = before {
        let _ = write!(text, "Summary so far:\n{before}\n\n");
    }
    text.push_str("Conversation:\n");
    for message in older {
        let who = match message {
            Message::System { .. } => "system",
            Message::User { .. } => "user",
            Message::Assistant { .. } => "assistant",
            Message::Tool { .. } => "tool",
        };
        let _ = writeln!(text, "{who}: {}", message.content());
    }
    let system = "Summarise the conversation in at most 200 words. Keep names, numbers, decisions and open questions.";
    vec![Message::System { content: system.to_owned() }, Message::User { content: text }]
}

/// Returns the summary as context for later turns.
pub(super) fn summary_of_before(text: &str) -> String {
    format!("What was said before, in short:\n{text}")
}
