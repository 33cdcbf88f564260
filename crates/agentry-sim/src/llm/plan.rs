//! Plans as a planner returns them, valid for the agents and bounds of the schema.

use serde_json::{Value, json};

use super::directive::{Directive, find, strip};
use super::generate::Conversation;

const MAX_PARALLEL: usize = 3;
/// Characters of the request that a step repeats.
const REQUEST_CHARS: usize = 400;

struct Step<'a> {
    id: &'static str,
    agent: &'a str,
    task: String,
    depends_on: Vec<&'static str>,
}

/// Answers a request for a plan. A conversation that already has an answer asks for a repair.
pub(super) fn answer(schema: &Value, conversation: &Conversation<'_>) -> String {
    let users = || conversation.earlier.iter().copied().chain(std::iter::once(conversation.last_user));
    let bad = users().flat_map(find).find_map(|found| match found.directive {
        Directive::BadPlan { always } => Some(always),
        _ => None,
    });
    if bad.is_some_and(|always| always || !conversation.has_answer) {
        let step = json!({"id": "step-1", "agent": "nobody", "task": "Do it all.", "depends_on": ["step-0"]});
        return json!({"steps": [step]}).to_string();
    }
    let request = strip(conversation.first_user);
    let request = request.char_indices().nth(REQUEST_CHARS).map_or(request.as_str(), |(end, _)| &request[..end]);
    let agents = schema.pointer("/properties/steps/items/properties/agent/enum").and_then(Value::as_array);
    let agents: Vec<&str> = agents.into_iter().flatten().filter_map(Value::as_str).collect();
    let most = schema.pointer("/properties/steps/maxItems").and_then(Value::as_u64).unwrap_or(u64::MAX);
    let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
    let mut steps = with_review(&agents, most, request).unwrap_or_else(|| side_by_side(&agents, most, request));
    if let Some(first) = steps.first_mut() {
        copy_step_directives(conversation.first_user, &mut first.task);
    }
    let steps: Vec<Value> = steps
        .into_iter()
        .map(|step| json!({"id": step.id, "agent": step.agent, "task": step.task, "depends_on": step.depends_on}))
        .collect();
    json!({"steps": steps}).to_string()
}

/// Copies the directives that concern a step, and not the planning, into `task`.
fn copy_step_directives(request: &str, task: &mut String) {
    for found in find(request) {
        if matches!(found.directive, Directive::Ask { .. } | Directive::Tool { .. } | Directive::Say(_)) {
            task.push(' ');
            task.push_str(found.text);
        }
    }
}

/// Plans facts and claims in parallel, then a draft, then a review. Returns `None` for fleets without a writer and a
/// checker.
fn with_review<'a>(agents: &[&'a str], most: usize, request: &str) -> Option<Vec<Step<'a>>> {
    let named = |words: &[&str]| agents.iter().copied().find(|agent| words.iter().any(|word| agent.contains(word)));
    let writer = named(&["writ", "edit", "author"])?;
    let checker = named(&["check", "review"])?;
    let other = agents.iter().copied().find(|agent| *agent != writer && *agent != checker)?;
    let inputs = ["facts", "claims"];
    (most >= 4).then(|| {
        vec![
            step("facts", other, "Collect the facts and figures for this request", request, &[]),
            step("claims", checker, "List the claims that must be checked in this request", request, &[]),
            step("draft", writer, "Write the answer from the facts and claims for this request", request, &inputs),
            step("review", checker, "Check the draft against the facts for this request", request, &["draft"]),
        ]
    })
}

/// Runs all agents but the last in parallel, then the last one over their results.
fn side_by_side<'a>(agents: &[&'a str], most: usize, request: &str) -> Vec<Step<'a>> {
    const IDS: [&str; MAX_PARALLEL] = ["part-1", "part-2", "part-3"];
    let parallel = MAX_PARALLEL.min(agents.len().saturating_sub(1)).min(most - 1);
    let mut steps: Vec<_> = agents[..parallel]
        .iter()
        .zip(IDS)
        .map(|(agent, id)| step(id, agent, "Work out your part of this request", request, &[]))
        .collect();
    if let Some(last) = agents.get(parallel) {
        let task = if parallel == 0 { "Answer this request" } else { "Bring the parts together for this request" };
        steps.push(step("answer", last, task, request, &IDS[..parallel]));
    }
    steps
}

fn step<'a>(id: &'static str, agent: &'a str, what: &str, request: &str, needs: &[&'static str]) -> Step<'a> {
    Step { id, agent, task: format!("{what}: {request}"), depends_on: needs.to_vec() }
}

#[cfg(test)]
mod tests {
    use agentry_core::agent::{AgentName, CollaborativeConfig};
    use agentry_core::plan::Plan;

    use super::*;

    fn conversation<'a>(users: &[&'a str]) -> Conversation<'a> {
        let (last_user, earlier) = users.split_last().unwrap();
        Conversation {
            first_user: users[0],
            last_user,
            earlier: earlier.to_vec(),
            has_answer: users.len() > 1,
            ..Conversation::default()
        }
    }

    fn allowed(names: &[&str]) -> Vec<AgentName> {
        names.iter().map(|name| AgentName::new(name).unwrap()).collect()
    }

    fn plan(names: &[&str], max_plan_steps: u32, users: &[&str]) -> Result<Plan, Vec<String>> {
        let config = CollaborativeConfig { max_plan_steps, ..CollaborativeConfig::default() };
        let agents = allowed(names);
        Plan::parse(&answer(&Plan::schema(&config, &agents), &conversation(users)), &config, &agents)
    }

    #[test]
    fn every_plan_is_valid() {
        let names = ["writer", "fact-checker", "data-analyst", "d", "e", "f"];
        for count in 1..=names.len() {
            for most in 1..6 {
                let plan = plan(&names[..count], most, &["Compare EU and US."]).unwrap();
                assert!(plan.steps.iter().all(|step| step.task.contains("Compare EU and US.")));
            }
        }
    }

    #[test]
    fn writer_and_checker_make_four_steps_of_which_two_run_at_once() {
        let plan = plan(&["writer", "fact-checker", "data-analyst"], 10, &["x"]).unwrap();
        let shape: Vec<_> = plan.steps.iter().map(|s| (s.id.as_str(), s.agent.as_str(), s.depends_on.len())).collect();
        let expected = [
            ("facts", "data-analyst", 0),
            ("claims", "fact-checker", 0),
            ("draft", "writer", 2),
            ("review", "fact-checker", 1),
        ];
        assert_eq!(shape, expected);
    }

    #[test]
    fn a_question_to_a_human_goes_to_one_step_and_the_rest_to_none() {
        let plan = plan(&["a", "b", "c"], 10, &["Go [[ask:Which region?|EU|US]] on [[sleep:5]]"]).unwrap();
        let asking: Vec<_> = plan.steps.iter().filter(|step| step.task.contains("[[")).collect();
        assert_eq!(asking.len(), 1);
        assert!(asking[0].task.ends_with("[[ask:Which region?|EU|US]]"), "{}", asking[0].task);
    }

    #[test]
    fn a_bad_plan_is_repaired_once_asked_unless_it_is_to_stay_bad() {
        assert!(plan(&["a"], 3, &["x [[badplan]]"]).is_err());
        assert!(plan(&["a"], 3, &["x [[badplan]]", "Repair it."]).is_ok());
        assert!(plan(&["a"], 3, &["x [[badplan:always]]", "Repair it."]).is_err());
    }
}
