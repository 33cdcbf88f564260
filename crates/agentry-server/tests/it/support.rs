//! A server without a listener, and a caller.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use agentry_bus::{EmbeddedBus, EventBus};
use agentry_config::FleetHandle;
use agentry_core::agent::{
    AgentName, AgentSpec, BudgetConfig, ExecutionMode, LlmConfig, LlmTarget, ModeSet, ProviderKind, SamplingParams,
};
use agentry_core::fleet::{AgentEntry, Fleet};
use agentry_core::id::{TaskId, WorkerId};
use agentry_core::retry::RetryPolicy;
use agentry_core::task::Outcome;
use agentry_core::time::{Clock, Timestamp};
use agentry_core::topic::TopicPattern;
use agentry_core::worker::{Role, WorkerRecord};
use agentry_intake::{Deployment, Intake, IntakeDeps, OsEntropy};
use agentry_server::{BadLogFilter, LogControl, LogState, ServerDeps, ServerLimits, router};
use agentry_store::sqlite::{SqliteOptions, SqliteStore};
use agentry_store::{Advance, ClaimRequest, ClaimedTask, FleetStore as _, StateStore, Step, TaskStore as _};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use serde_json::Value;
use tower::ServiceExt as _;

/// 2026-11-23 09:00:00 UTC.
pub const NOW: Timestamp = Timestamp(1_795_424_400_000_000);

/// A clock that stands still until it is moved.
pub struct ManualClock(AtomicI64);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

impl ManualClock {
    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }
}

pub struct Server {
    pub router: Router,
    pub deps: ServerDeps,
    pub store: Arc<SqliteStore>,
    pub bus: EmbeddedBus,
    pub clock: Arc<ManualClock>,
    pub worker: WorkerId,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A log that takes every filter but one.
#[derive(Default)]
struct Log(std::sync::Mutex<Option<(String, Option<Duration>)>>);

impl LogControl for Log {
    fn current(&self) -> LogState {
        match self.0.lock().unwrap().clone() {
            None => LogState { filter: "info".to_owned(), then: None },
            Some((filter, time)) => LogState { filter, then: time.map(|time| ("info".to_owned(), time)) },
        }
    }

    fn set(&self, filter: &str, time: Option<Duration>) -> Result<(), BadLogFilter> {
        if filter == "loud" {
            return Err(BadLogFilter("`loud` at column 1: expected a level".to_owned()));
        }
        *self.0.lock().unwrap() = Some((filter.to_owned(), time));
        Ok(())
    }
}

pub fn spec(name: &str, mode: ExecutionMode, topics: &[&str]) -> AgentSpec {
    AgentSpec {
        name: AgentName::new(name).unwrap(),
        version: "0123456789ab".into(),
        mode,
        agent_type: None,
        description: Some("for tests".into()),
        enabled: name != "off",
        tags: Vec::new(),
        metadata: None,
        system_prompt: "x".into(),
        instructions: None,
        subscriptions: topics.iter().map(|topic| TopicPattern::new(topic).unwrap()).collect(),
        llm: LlmConfig {
            target: LlmTarget { provider: ProviderKind::Simulated, model: "echo".into(), base_url: None, region: None },
            fallback: Vec::new(),
            params: SamplingParams::default(),
            timeout_ms: 1_000,
            response_format: None,
        },
        tools: Vec::new(),
        retry: RetryPolicy::default(),
        continuous: None,
        collaborative: None,
        schedule: None,
        budget: BudgetConfig::default(),
        output_schema: None,
    }
}

fn fleet() -> Fleet {
    let entry = |spec: Option<AgentSpec>, error: Option<&str>| AgentEntry {
        file: format!("agents/{}.yml", spec.as_ref().map_or("broken", |spec| spec.name.as_str())).into(),
        spec: spec.map(Arc::new),
        error: error.map(Into::into),
        warnings: Vec::new(),
        has_unset_variables: false,
    };
    let live = [
        spec("triage", ExecutionMode::Autonomous, &["customer.#"]),
        spec("support", ExecutionMode::Continuous, &["agent.output.triage"]),
        spec("off", ExecutionMode::Autonomous, &["customer.#"]),
    ];
    let mut agents: HashMap<AgentName, AgentEntry> =
        live.into_iter().map(|spec| (spec.name.clone(), entry(Some(spec), None))).collect();
    let broken = "agents/broken.yml:7:3: unknown key `modle`, did you mean `model`?";
    agents.insert(AgentName::new("broken").unwrap(), entry(None, Some(broken)));
    Fleet::new(agents)
}

fn intake(store: &Arc<SqliteStore>, bus: &EmbeddedBus, clock: &Arc<ManualClock>, fleet: Fleet) -> Intake {
    Intake::new(IntakeDeps {
        store: Arc::clone(store) as Arc<dyn StateStore>,
        bus: Arc::new(bus.clone()),
        deployment: Arc::new(Deployment::fixed(FleetHandle::new(fleet))),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        entropy: Arc::new(OsEntropy),
    })
}

impl Server {
    pub async fn new() -> Self {
        Self::with(ServerLimits::default(), SqliteOptions::default()).await
    }

    pub async fn with(limits: ServerLimits, options: SqliteOptions) -> Self {
        let store = Arc::new(SqliteStore::in_memory(options).unwrap());
        let (bus, clock, worker) =
            (EmbeddedBus::new(), Arc::new(ManualClock(AtomicI64::new(NOW.0))), WorkerId::generate());
        let intake = intake(&store, &bus, &clock, fleet());
        let deps = ServerDeps {
            sampling: agentry_core::trace::Sampling::Off,
            log: Arc::new(Log::default()),
            store: Arc::clone(&store) as Arc<dyn StateStore>,
            bus: Arc::new(bus.clone()),
            intake,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            limits,
            slack: None,
            roles: Role::ALL.to_vec(),
            dependencies: Vec::new(),
            metrics: Arc::default(),
            access: agentry_server::Access::default(),
            slots_kept: Some(Duration::from_secs(30 * 86_400)),
            reports: "reports".into(),
            engine: "embedded",
            version: "0.0.0-test",
        };
        let server = Self { router: router(deps.clone()), deps, store, bus, clock, worker };
        server.beat().await;
        server
    }

    /// Gives the deployment these agents; the router is to be made anew.
    pub fn set_fleet(&mut self, fleet: Fleet) {
        self.deps.intake = intake(&self.store, &self.bus, &self.clock, fleet);
    }

    /// The test's worker says that it lives.
    pub async fn beat(&self) {
        let now = self.clock.now();
        let record = WorkerRecord {
            id: self.worker,
            host: "test/1".to_owned(),
            roles: Role::ALL.to_vec(),
            modes: ModeSet::ALL,
            slots: 4,
            busy: 0,
            started_at: NOW,
            heartbeat_at: now,
            files: Vec::new(),
        };
        self.store.heartbeat(&record).await.unwrap();
    }

    pub async fn raw(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub async fn send(&self, request: Request<Body>) -> Reply {
        let (parts, body) = self.raw(request).await.into_parts();
        let bytes = to_bytes(body, 64 << 20).await.unwrap();
        Reply { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(Request::delete(path).body(Body::empty()).unwrap()).await
    }

    pub async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Reply {
        let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: impl Into<Body>) -> Reply {
        self.call("POST", path, &[], body).await
    }

    /// Asks `triage` something; the task's id.
    pub async fn ask(&self, input: &str) -> TaskId {
        let reply = self.post("/v1/tasks", format!(r#"{{"agent":"triage","input":"{input}"}}"#)).await;
        assert_eq!(reply.status, 202, "{}", reply.text);
        reply.json()["id"].as_str().unwrap().parse().unwrap()
    }

    /// The test's worker claims the next task.
    pub async fn claim(&self) -> ClaimedTask {
        let now = self.clock.now();
        let want = ClaimRequest::Next { modes: ModeSet::ALL, limit: 1, due_by: now };
        self.store.claim(self.worker, want, now).await.unwrap().remove(0)
    }

    /// Ends a claimed task and tells watchers.
    pub async fn finish(&self, claimed: &ClaimedTask, outcome: Outcome, dead_letter: bool) {
        let status = outcome.status;
        let step = Step::Finish { outcome, dead_letter };
        self.store.advance(Advance::new(claimed.lease, self.clock.now(), step).into()).await.unwrap();
        self.bus.signal(agentry_bus::Signal::Progress { task: claimed.lease.task, status });
    }
}
