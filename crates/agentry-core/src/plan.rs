//! Plans: steps with agents and dependencies, validation, and the order of execution.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::agent::{AgentName, CollaborativeConfig};
use crate::answer::json_of;
use crate::task::TaskError;

/// The answer of a planner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The steps, in any order.
    pub steps: Vec<PlanStep>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanStep {
    /// Name within the plan.
    pub id: String,
    /// The agent that executes the step.
    pub agent: AgentName,
    /// Instructions for the agent.
    pub task: String,
    /// Steps whose outputs this one needs.
    #[serde(default)]
    pub depends_on: Vec<String>,
}

impl Plan {
    /// Reads a planner's answer (JSON, possibly fenced in Markdown) and checks it.
    ///
    /// # Errors
    /// Returns all problems of the plan, in words that the planner can act on.
    pub fn parse(answer: &str, config: &CollaborativeConfig, allowed: &[AgentName]) -> Result<Self, Vec<String>> {
        let plan: Self = json_of(answer)
            .and_then(serde_json::from_value)
            .map_err(|error| vec![format!("the answer is not a plan in JSON: {error}")])?;
        let problems = plan.problems(config, allowed);
        if problems.is_empty() { Ok(plan) } else { Err(problems) }
    }

    fn problems(&self, config: &CollaborativeConfig, allowed: &[AgentName]) -> Vec<String> {
        let mut problems = Vec::new();
        if self.steps.is_empty() {
            problems.push("the plan has no steps".to_owned());
        }
        let most = usize::try_from(config.max_plan_steps).unwrap_or(usize::MAX);
        if self.steps.len() > most {
            problems.push(format!("the plan has {} steps; at most {most} are allowed", self.steps.len()));
        }
        let mut ids = BTreeSet::new();
        for step in &self.steps {
            if step.id.is_empty() || step.id.len() > 64 || step.id.contains('/') {
                problems.push(format!("`{}` cannot be a step's id: use 1 to 64 characters without `/`", step.id));
            }
            if !ids.insert(step.id.as_str()) {
                problems.push(format!("two steps are called `{}`", step.id));
            }
            if !allowed.contains(&step.agent) {
                let names: Vec<_> = allowed.iter().map(AgentName::as_str).collect();
                problems.push(format!(
                    "step `{}`: unknown agent `{}`; choose from {}",
                    step.id,
                    step.agent,
                    names.join(", ")
                ));
            }
        }
        for step in &self.steps {
            for needed in step.depends_on.iter().filter(|id| !ids.contains(id.as_str())) {
                problems.push(format!("step `{}` depends on `{needed}`, which is not in the plan", step.id));
            }
        }
        let agents: BTreeSet<_> = self.steps.iter().map(|step| &step.agent).collect();
        if agents.len() < config.min_collaborators as usize || agents.len() > config.max_collaborators as usize {
            problems.push(format!(
                "the plan uses {} agents; {} to {} are allowed",
                agents.len(),
                config.min_collaborators,
                config.max_collaborators
            ));
        }
        if problems.is_empty()
            && let Some(step) = self.cycle()
        {
            problems.push(format!("step `{step}` depends on itself through other steps"));
        }
        problems
    }

    /// Returns a step that is part of a cycle, if there is one.
    fn cycle(&self) -> Option<&str> {
        let mut left: BTreeMap<&str, &PlanStep> = self.steps.iter().map(|step| (step.id.as_str(), step)).collect();
        loop {
            let free: Vec<&str> = left
                .values()
                .filter(|step| step.depends_on.iter().all(|id| !left.contains_key(id.as_str())))
                .map(|step| step.id.as_str())
                .collect();
            if free.is_empty() {
                return left.keys().next().copied();
            }
            for id in free {
                left.remove(id);
            }
        }
    }

    /// Returns the JSON Schema of a plan over these agents, for structured output.
    #[must_use]
    pub fn schema(config: &CollaborativeConfig, allowed: &[AgentName]) -> Value {
        json!({
            "type": "object",
            "title": "agentry_plan",
            "properties": {
                "steps": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": config.max_plan_steps,
                    "items": {
                        "type": "object",
                        "properties": {
                            "id": {"type": "string"},
                            "agent": {"type": "string", "enum": allowed},
                            "task": {"type": "string"},
                            "depends_on": {"type": "array", "items": {"type": "string"}}
                        },
                        "required": ["id", "agent", "task", "depends_on"],
                        "additionalProperties": false
                    }
                }
            },
            "required": ["steps"],
            "additionalProperties": false
        })
    }
}

/// The progress of a plan: a machine without IO.
#[derive(Debug, Clone)]
pub struct PlanRun {
    plan: Plan,
    ended: HashMap<String, Result<Value, TaskError>>,
}

impl PlanRun {
    /// Returns a plan without completed steps.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self { plan, ended: HashMap::new() }
    }

    /// Returns the plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Records the success of a step.
    pub fn complete(&mut self, step: &str, output: Value) {
        self.ended.insert(step.to_owned(), Ok(output));
    }

    /// Records the failure of a step.
    pub fn fail(&mut self, step: &str, error: TaskError) {
        self.ended.insert(step.to_owned(), Err(error));
    }

    /// Returns the first failure, in the order of the plan.
    #[must_use]
    pub fn failure(&self) -> Option<(&str, &TaskError)> {
        self.plan.steps.iter().find_map(|step| match self.ended.get(&step.id) {
            Some(Err(error)) => Some((step.id.as_str(), error)),
            _ => None,
        })
    }

    /// Returns the steps that have not ended and whose dependencies succeeded; all of them may run concurrently.
    #[must_use]
    pub fn ready(&self) -> Vec<&PlanStep> {
        self.plan
            .steps
            .iter()
            .filter(|step| !self.ended.contains_key(&step.id))
            .filter(|step| step.depends_on.iter().all(|id| matches!(self.ended.get(id), Some(Ok(_)))))
            .collect()
    }

    /// Returns whether every step succeeded.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.plan.steps.iter().all(|step| matches!(self.ended.get(&step.id), Some(Ok(_))))
    }

    /// Returns the outputs of a step's dependencies, by step id, in the order it names them.
    #[must_use]
    pub fn inputs(&self, step: &PlanStep) -> Vec<(String, Value)> {
        step.depends_on.iter().filter_map(|id| Some((id.clone(), self.output(id)?))).collect()
    }

    /// Returns the output of a successful step.
    #[must_use]
    pub fn output(&self, step: &str) -> Option<Value> {
        self.ended.get(step).and_then(|result| result.as_ref().ok()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agents() -> Vec<AgentName> {
        ["writer", "checker"].map(|name| AgentName::new(name).unwrap()).to_vec()
    }

    fn parse(text: &str) -> Result<Plan, Vec<String>> {
        Plan::parse(text, &CollaborativeConfig::default(), &agents())
    }

    #[test]
    fn a_good_plan_is_read_even_when_fenced() {
        let plan = r#"{"steps":[{"id":"a","agent":"writer","task":"x"},{"id":"b","agent":"checker","task":"y","depends_on":["a"]}]}"#;
        assert_eq!(parse(plan).unwrap().steps.len(), 2);
        assert_eq!(parse(&format!("```json\n{plan}\n```")).unwrap().steps.len(), 2);
    }

    #[test]
    fn every_problem_is_named() {
        let cases = [
            ("not json", "not a plan in JSON"),
            (r#"{"steps":[]}"#, "no steps"),
            (
                r#"{"steps":[{"id":"a","agent":"nobody","task":"x"}]}"#,
                "unknown agent `nobody`; choose from writer, checker",
            ),
            (r#"{"steps":[{"id":"a","agent":"writer","task":"x","depends_on":["z"]}]}"#, "not in the plan"),
            (
                r#"{"steps":[{"id":"a","agent":"writer","task":"x"},{"id":"a","agent":"writer","task":"x"}]}"#,
                "two steps",
            ),
            (
                r#"{"steps":[{"id":"a","agent":"writer","task":"x","depends_on":["b"]},{"id":"b","agent":"writer","task":"x","depends_on":["a"]}]}"#,
                "depends on itself",
            ),
        ];
        for (text, expected) in cases {
            let problems = parse(text).unwrap_err().join("; ");
            assert!(problems.contains(expected), "{text}: {problems}");
        }
        let many: Vec<_> = (0..11).map(|i| json!({"id": i.to_string(), "agent": "writer", "task": "x"})).collect();
        assert!(parse(&json!({"steps": many}).to_string()).unwrap_err()[0].contains("11 steps"));
    }

    #[test]
    fn independent_steps_are_ready_together_and_dependents_get_their_inputs() {
        let plan = r#"{"steps":[{"id":"a","agent":"writer","task":"x"},{"id":"b","agent":"writer","task":"x"},{"id":"c","agent":"checker","task":"y","depends_on":["b","a"]}]}"#;
        let mut run = PlanRun::new(parse(plan).unwrap());
        assert_eq!(run.ready().iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        run.complete("a", json!("A"));
        assert_eq!(run.ready().len(), 1);
        run.complete("b", json!("B"));
        let c = run.ready()[0].clone();
        assert_eq!(run.inputs(&c), [("b".to_owned(), json!("B")), ("a".to_owned(), json!("A"))]);
        run.complete("c", json!("C"));
        assert!(run.is_complete() && run.ready().is_empty());
    }
}
