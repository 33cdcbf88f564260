//! Collaborative: a planning call, concurrent steps of several agents, an aggregation. The plan and the results of its
//! steps are checkpoints: they survive crashes, waits for humans, and attempts.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use agentry_core::agent::{AgentName, AgentSpec, CollaborativeConfig};
use agentry_core::answer::ended;
use agentry_core::chat::{ChatReply, ChatRequest, Message};
use agentry_core::journal::{JournalBody, Scope};
use agentry_core::plan::{Plan, PlanRun, PlanStep};
use agentry_core::task::{ErrorCode, TaskError};
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::Value;

use super::prompts;
use crate::execute::{ModeEnd, find_spec};
use crate::run::{Run, Stop};
use crate::runner::{ClarificationPolicy, LoopEnd, Runner};

/// Maximum number of planning calls: the first, and one repair.
const PLANNING_CALLS: u32 = 2;

pub(super) async fn execute(run: &Run) -> Result<ModeEnd, Stop> {
    let config = run.spec.collaborative.as_deref().cloned().unwrap_or_default();
    let (plan, versions) = match accepted_plan(run) {
        Some(plan) => plan,
        None => match make_plan(run, &config).await? {
            Ok(plan) => plan,
            Err(error) => return Ok(ModeEnd::Done(Err(error), None)),
        },
    };
    let mut progress = PlanRun::new(plan);
    for entry in &run.past {
        if let JournalBody::StepCompleted { step, output } = &entry.body {
            progress.complete(step, output.clone());
        }
    }
    match carry_out(run, &config, &versions, &mut progress).await? {
        Steps::AllDone => {}
        Steps::Paused => return Ok(ModeEnd::Paused),
        Steps::Failed(error) => return Ok(ModeEnd::Done(Err(error), None)),
    }
    aggregate(run, &progress).await
}

/// The version of each agent that has a step, as of the plan.
type Versions = BTreeMap<AgentName, Box<str>>;

fn accepted_plan(run: &Run) -> Option<(Plan, Versions)> {
    run.past.iter().rev().find_map(|entry| match &entry.body {
        JournalBody::PlanAccepted { plan, versions } => Some((plan.clone(), versions.clone())),
        _ => None,
    })
}

/// Returns the agents that the planner may assign steps to.
fn team(run: &Run, config: &CollaborativeConfig) -> Vec<Arc<AgentSpec>> {
    let fleet = run.ctx.fleet.current();
    let mut team: Vec<Arc<AgentSpec>> = if config.preferred_collaborators.is_empty() {
        fleet
            .iter()
            .filter_map(|(name, _)| fleet.live(name))
            .filter(|spec| spec.name != run.spec.name)
            .cloned()
            .collect()
    } else {
        config.preferred_collaborators.iter().filter_map(|name| fleet.live(name)).cloned().collect()
    };
    // Plans of plans could recurse forever.
    team.retain(|spec| spec.collaborative.is_none());
    team.sort_by(|a, b| a.name.cmp(&b.name));
    if !config.preferred_collaborators.is_empty() {
        let place = |spec: &AgentSpec| config.preferred_collaborators.iter().position(|name| *name == spec.name);
        team.sort_by_key(|spec| place(spec));
    }
    team
}

/// Asks the planner, and once more if its plan is invalid.
async fn make_plan(run: &Run, config: &CollaborativeConfig) -> Result<Result<(Plan, Versions), TaskError>, Stop> {
    let team = team(run, config);
    let members: Vec<&AgentSpec> = team.iter().map(Arc::as_ref).collect();
    let names: Vec<AgentName> = team.iter().map(|spec| spec.name.clone()).collect();
    if names.is_empty() {
        let message = "none of the preferred collaborators is in the fleet: there is nobody to plan for";
        return Ok(Err(TaskError::new(ErrorCode::PlanInvalid, message)));
    }
    let spec = planning_spec(run, config);
    let runner = Runner { run, spec: &spec, scope: Scope::PLAN, clarification: ClarificationPolicy::default() };
    let mut recorded = run.past_of(&Scope::PLAN).filter_map(|body| match body {
        JournalBody::ModelCompleted { reply, .. } => Some(reply.clone()),
        _ => None,
    });
    let mut messages = vec![
        Message::System { content: prompts::planner(&run.spec, config, &members) },
        Message::User { content: run.task.input_text() },
    ];
    let mut problems = Vec::new();
    for turn in 0..PLANNING_CALLS {
        let reply = match recorded.next() {
            Some(reply) => reply,
            None => match ask_planner(&runner, turn, &messages, Plan::schema(config, &names)).await? {
                Ok(reply) => reply,
                Err(error) => return Ok(Err(error)),
            },
        };
        if let Err(error) = ended(&reply) {
            return Ok(Err(error));
        }
        match Plan::parse(&reply.content, config, &names) {
            Ok(plan) => {
                let versions = match keep_versions(run, &team, &plan).await {
                    Ok(versions) => versions,
                    Err(error) => return Ok(Err(error)),
                };
                let accepted = JournalBody::PlanAccepted { plan: plan.clone(), versions: versions.clone() };
                run.record(&Scope::PLAN, vec![accepted], Vec::new()).await?;
                return Ok(Ok((plan, versions)));
            }
            Err(found) => {
                run.defer(&Scope::PLAN, vec![JournalBody::PlanRejected { problems: found.clone() }], Vec::new());
                messages.push(reply.to_message());
                messages.push(Message::User { content: prompts::repair(&found) });
                problems = found;
            }
        }
    }
    let message = format!("the planner's plan was bad, and so was its repair: {}", problems.join("; "));
    Ok(Err(TaskError::new(ErrorCode::PlanInvalid, message)))
}

/// Stores the versions of the agents that have steps.
async fn keep_versions(run: &Run, team: &[Arc<AgentSpec>], plan: &Plan) -> Result<Versions, TaskError> {
    let mut versions = Versions::new();
    for spec in team.iter().filter(|spec| plan.steps.iter().any(|step| step.agent == spec.name)) {
        run.ctx.store_version(spec).await.map_err(|error| {
            let message = format!("cannot keep the version of agent `{}` for the plan: {error}", spec.name);
            TaskError::new(ErrorCode::Internal, message)
        })?;
        versions.insert(spec.name.clone(), spec.version.clone());
    }
    Ok(versions)
}

async fn ask_planner(
    runner: &Runner<'_>,
    turn: u32,
    messages: &[Message],
    schema: Value,
) -> Result<Result<ChatReply, TaskError>, Stop> {
    runner.run.checkpoint()?;
    let request = ChatRequest { messages: messages.to_vec(), tools: Vec::new(), output_schema: Some(schema) };
    runner.call_model(turn, request).await
}

/// Returns the agent as its own planner: with another model or temperature if its file says so.
fn planning_spec(run: &Run, config: &CollaborativeConfig) -> AgentSpec {
    let mut spec = AgentSpec::clone(&run.spec);
    if let Some(model) = &config.planning_model {
        spec.llm.target.model = Arc::clone(model);
    }
    if config.planning_temperature.is_some() {
        spec.llm.params.temperature = config.planning_temperature;
    }
    spec.llm.response_format = None;
    spec
}

enum Steps {
    AllDone,
    Paused,
    Failed(TaskError),
}

/// Runs the steps of a plan, as many at once as are ready. After a failure no new step begins; running ones finish,
/// because their results are checkpoints for the next attempt.
async fn carry_out(
    run: &Run,
    config: &CollaborativeConfig,
    versions: &Versions,
    progress: &mut PlanRun,
) -> Result<Steps, Stop> {
    let mut begun: HashSet<String> = HashSet::new();
    let mut paused = false;
    let mut running = FuturesUnordered::new();
    loop {
        if progress.failure().is_none() {
            let ready: Vec<PlanStep> =
                progress.ready().into_iter().filter(|step| !begun.contains(&step.id)).cloned().collect();
            for step in ready {
                begun.insert(step.id.clone());
                let input = prompts::step(progress, &step);
                let version = versions.get(&step.agent).map(|version| &**version);
                running.push(run_step(run, config, version, step, input));
            }
        }
        let Some(ended) = running.next().await else { break };
        let (step, end) = ended?;
        match end {
            LoopEnd::Paused => paused = true,
            LoopEnd::Done(Ok(output)) => progress.complete(&step, output),
            LoopEnd::Done(Err(error)) => progress.fail(&step, error),
        }
    }
    if let Some((step, error)) = progress.failure() {
        let code = if error.code.is_retryable() { ErrorCode::StepFailed } else { error.code };
        return Ok(Steps::Failed(TaskError::new(code, format!("step `{step}` failed: {}", error.message))));
    }
    Ok(if paused { Steps::Paused } else { Steps::AllDone })
}

/// Runs the loop of a step's agent, and writes the result as a checkpoint.
async fn run_step(
    run: &Run,
    config: &CollaborativeConfig,
    version: Option<&str>,
    step: PlanStep,
    input: String,
) -> Result<(String, LoopEnd), Stop> {
    let scope = Scope::step(&step.id);
    let spec = match find_spec(&run.ctx, &step.agent, version).await {
        Ok(Some(spec)) => spec,
        Ok(None) => {
            let message = format!("agent `{}` is not in the fleet any more, or is disabled", step.agent);
            return Ok((step.id, LoopEnd::Done(Err(TaskError::new(ErrorCode::AgentUnavailable, message)))));
        }
        Err(error) => {
            let message = format!("cannot read agent `{}`: {error}", step.agent);
            return Ok((step.id, LoopEnd::Done(Err(TaskError::new(ErrorCode::Internal, message)))));
        }
    };
    let clarification = ClarificationPolicy {
        allowed: config.allow_clarification,
        timeout: Duration::from_millis(config.clarification_timeout_ms),
        default: config.clarification_default.as_deref().map(str::to_owned),
    };
    let runner = Runner { run, spec: &spec, scope: scope.clone(), clarification };
    let mut machine = runner.machine(vec![
        Message::System { content: prompts::step_system(&spec, &run.task.input_text()) },
        Message::User { content: input },
    ]);
    let limit = Duration::from_millis(config.step_timeout_ms);
    let end = match tokio::time::timeout(limit, runner.drive(&mut machine)).await {
        Ok(end) => end?,
        Err(_) => {
            run.abandon_calls(Some(&scope));
            let message = format!("the step ran longer than {} s", limit.as_secs_f64());
            LoopEnd::Done(Err(TaskError::new(ErrorCode::StepFailed, message)))
        }
    };
    let body = match &end {
        LoopEnd::Paused => return Ok((step.id, end)),
        LoopEnd::Done(Ok(output)) => JournalBody::StepCompleted { step: step.id.clone(), output: output.clone() },
        LoopEnd::Done(Err(error)) => JournalBody::StepFailed { step: step.id.clone(), error: error.clone() },
    };
    run.record(&scope, vec![body], Vec::new()).await?;
    Ok((step.id, end))
}

/// Combines the results of the steps into one answer.
async fn aggregate(run: &Run, progress: &PlanRun) -> Result<ModeEnd, Stop> {
    let runner =
        Runner { run, spec: &run.spec, scope: Scope::AGGREGATE, clarification: ClarificationPolicy::default() };
    let mut machine = runner.machine(vec![
        Message::System { content: run.spec.system_text() },
        Message::User { content: prompts::aggregate(progress, &run.task.input_text()) },
    ]);
    Ok(match runner.drive(&mut machine).await? {
        LoopEnd::Done(result) => ModeEnd::Done(result, None),
        LoopEnd::Paused => ModeEnd::Paused,
    })
}
