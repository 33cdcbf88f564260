//! What scenarios share during a run: where they deploy, how they load, what watches them, and what was found besides
//! their own figures.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use agentry_lab::ProcessGroup;
use hdrhistogram::Histogram;
use tempfile::TempDir;

use super::error::RunError;
use super::gates;
use super::progress::Progress;
use crate::catalogue::Nemesis;
use crate::estimate::LivePlan;
use crate::load::{self, Caller, Live, Load, Recording, Running, clock, histogram};
use crate::model::Stage as Part;
use crate::model::{Engine, Fault, Gate, Invariant, Phase, Profile, Test, Window};
use crate::sample::{CpuLedger, Part as SampledPart, Sampler, Samples};
use crate::sut::servers::Urls;
use crate::sut::{Api, Deployment, Plan, Servers, SutError};

/// How often a load is looked at while it runs.
const LOOK: Duration = Duration::from_millis(200);

/// What scenarios share.
pub struct Lab {
    /// How long windows are.
    pub profile: Profile,
    /// What the platform runs on.
    pub engine: Engine,
    /// The deployment under test, when it is not one of our own.
    pub url: Option<Api>,
    /// The only faults of 3.2; those of the profile when empty.
    pub only_faults: Vec<Nemesis>,
    /// Which real providers 5.1 calls, if any.
    pub live: Option<LivePlan>,
    /// What they have cost so far, in billionths of a dollar; known also of a run that is interrupted.
    pub live_spent: Arc<AtomicI64>,
    /// The phase that is running.
    pub phase: Phase,
    /// What arrivals, order and faults follow from.
    pub seed: u64,
    /// Where files beside the report go.
    pub out: PathBuf,
    /// Watches every process.
    pub sampler: Arc<Sampler>,
    /// Tells how far it is.
    pub progress: Progress,
    /// Gates of all tests so far.
    pub gates: Vec<Gate>,
    /// Faults so far.
    pub faults: Vec<Fault>,
    /// Invariants that were checked.
    pub safety: Vec<Invariant>,
    /// How late all sends of the run were, in microseconds.
    pub lag: Histogram<u64>,
    /// 99th percentile of a request to a server on loopback that does nothing, in milliseconds.
    pub floor_p99_ms: Option<f64>,
    /// What belongs beside the harness's own figures.
    pub notes: Vec<String>,
    /// The start of the run, on the monotonic clock.
    t0: u64,
    opened: u32,
    servers: Option<Servers>,
    folder: TempDir,
}

/// What a load has seen, and what everybody did meanwhile.
pub struct Driven<C> {
    /// What it saw.
    pub seen: Recording,
    /// Who asked.
    pub caller: C,
    /// Samples of the measured window.
    pub samples: Samples,
    /// Who used the processors in it.
    pub ledger: CpuLedger,
}

/// What a load is for: what follows from it decides its gates.
#[derive(Debug, Clone, Copy)]
pub struct Purpose {
    /// The latency that a criterion asks for, in milliseconds: the harness must be finer than a part of it.
    pub target_ms: Option<f64>,
    /// Whether the limit of the machine is looked for: then the harness's own share is told and forbids nothing.
    pub capacity: bool,
}

impl Purpose {
    /// At a rate that a criterion names, with a latency that it names.
    #[must_use]
    pub fn target(ms: f64) -> Self {
        Self { target_ms: Some(ms), capacity: false }
    }

    /// The most that the machine gives.
    #[must_use]
    pub fn capacity() -> Self {
        Self { target_ms: None, capacity: true }
    }
}

/// As many open files as the system lets us: an open loop needs a connection for each request in flight. Where it lets
/// us have few, requests that find none are counted as failed.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Processes of the servers count for their parts from now on.
fn watch(servers: &Servers, sampler: &Sampler) {
    sampler.watch(SampledPart::Postgres, servers.postgres.process.pid());
    sampler.watch(SampledPart::RabbitMq, servers.rabbitmq.process.pid());
    sampler.watch(SampledPart::Redis, servers.redis.process.pid());
}

impl Lab {
    /// An empty one; the run begins now.
    ///
    /// # Errors
    /// When there is no place for data or no thread for samples.
    pub fn new(profile: Profile, engine: Engine, url: Option<Api>, seed: u64, out: &Path) -> Result<Self, RunError> {
        raise_descriptors();
        let folder = tempfile::Builder::new().prefix("agentry-bench-servers-").tempdir();
        let folder = folder.map_err(|error| RunError::File { path: std::env::temp_dir(), error })?;
        let sampler =
            Sampler::start().map_err(|error| RunError::File { path: "the sampler's thread".into(), error })?;
        Ok(Self {
            profile,
            engine,
            url,
            only_faults: Vec::new(),
            live: None,
            live_spent: Arc::default(),
            phase: Phase::Load,
            seed,
            out: out.to_owned(),
            sampler: Arc::new(sampler),
            progress: Progress::default(),
            gates: Vec::new(),
            faults: Vec::new(),
            safety: Vec::new(),
            lag: histogram(),
            floor_p99_ms: None,
            notes: Vec::new(),
            t0: clock::now(),
            opened: 0,
            servers: None,
            folder,
        })
    }

    /// Seconds from the run's start to a moment of the monotonic clock.
    #[must_use]
    pub fn time(&self, moment: u64) -> f64 {
        (moment as f64 - self.t0 as f64) / 1e9
    }

    /// Seconds since the run's start.
    #[must_use]
    pub fn now(&self) -> f64 {
        self.time(clock::now())
    }

    /// The start of the run, on the monotonic clock.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.t0
    }

    /// One of four values by profile.
    #[must_use]
    pub fn by<T>(&self, quick: T, ci: T, standard: T, full: T) -> T {
        match self.profile {
            Profile::Quick => quick,
            Profile::Ci => ci,
            Profile::Standard => standard,
            Profile::Full => full,
        }
    }

    /// Seconds by profile.
    #[must_use]
    pub fn seconds(&self, quick: f64, ci: f64, standard: f64, full: f64) -> Duration {
        Duration::from_secs_f64(self.by(quick, ci, standard, full))
    }

    /// Warm-up before a window, by profile.
    #[must_use]
    pub fn warm_up(&self) -> Duration {
        self.seconds(1.0, 5.0, 30.0, 60.0)
    }

    /// A number that follows from the seed, for one use.
    #[must_use]
    pub fn seed_of(&self, what: &str) -> u64 {
        // FNV-1a: stable over versions of the library.
        what.bytes().fold(self.seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// The servers of the cluster engine, started when they are first needed.
    ///
    /// # Errors
    /// When they are not installed or do not come up.
    pub async fn servers(&mut self) -> Result<&mut Servers, SutError> {
        if self.servers.is_none() {
            self.progress.tick("starting PostgreSQL, RabbitMQ and Redis");
            let servers = Servers::start(self.folder.path(), ProcessGroup::Own).await?;
            watch(&servers, &self.sampler);
            self.notes.push(format!(
                "private PostgreSQL, RabbitMQ and Redis answered {:.1} s after they were started on empty data; they are up \
                 before anything is timed",
                servers.cold_start.as_secs_f64()
            ));
            self.servers = Some(servers);
        }
        self.servers.as_mut().ok_or_else(|| SutError::Server("the servers are gone".to_owned()))
    }

    /// The servers, when they run.
    #[must_use]
    pub fn running_servers(&self) -> Option<&Servers> {
        self.servers.as_ref()
    }

    /// The servers, for a fault that needs them while the lab drives a load; they come back with [`Lab::give_servers`].
    #[must_use]
    pub fn take_servers(&mut self) -> Option<Servers> {
        self.servers.take()
    }

    /// The servers come back, some of their processes perhaps other ones.
    pub fn give_servers(&mut self, servers: Option<Servers>) {
        if let Some(servers) = &servers {
            watch(servers, &self.sampler);
        }
        self.servers = servers;
    }

    async fn place(&mut self) -> Result<(Option<Urls>, String), SutError> {
        self.opened += 1;
        let name = format!("bench_{}", self.opened);
        let urls = match self.engine {
            Engine::Embedded => None,
            Engine::Cluster => Some(self.servers().await?.urls()),
        };
        Ok((urls, name))
    }

    /// A deployment whose agents are healthy, on a schema and a prefix of its own.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn deploy(&mut self, plan: Plan) -> Result<Deployment, SutError> {
        let (urls, name) = self.place().await?;
        Deployment::open(self.engine, urls, &name, plan, &self.sampler).await
    }

    /// A deployment of which nothing runs yet but its simulator.
    ///
    /// # Errors
    /// When it cannot be prepared.
    pub async fn prepare(&mut self, plan: Plan) -> Result<Deployment, SutError> {
        let (urls, name) = self.place().await?;
        Deployment::prepare(self.engine, urls, &name, plan, &self.sampler).await
    }

    /// An empty test of the running phase.
    #[must_use]
    pub fn test(&self, id: &str, title: &str, llm_profile: &str) -> Test {
        let mode = if self.url.is_some() { "external" } else { self.engine.word() };
        Test {
            id: id.to_owned(),
            title: title.to_owned(),
            phase: self.phase,
            mode: mode.to_owned(),
            llm_profile: llm_profile.to_owned(),
            params: std::collections::BTreeMap::new(),
            windows: Vec::new(),
            metrics: Vec::new(),
            criteria: Vec::new(),
            plots: Vec::new(),
            slowest: Vec::new(),
            notes: Vec::new(),
            raw: Vec::new(),
        }
    }

    /// Drives a load for a test: shows how it goes, notes its windows and judges the harness.
    ///
    /// # Errors
    /// When the load cannot be driven.
    pub async fn drive<C: Caller + 'static>(
        &mut self,
        test: &mut Test,
        load: Load,
        caller: C,
        purpose: Purpose,
    ) -> Result<Driven<C>, RunError> {
        // A load that looks for the limit of the machine may not void what was measured below it.
        let of = if purpose.capacity { format!("{} at the limit", test.id) } else { test.id.clone() };
        self.drive_until(test, load, caller, (purpose, &of), async |_| false).await
    }

    /// [`Lab::drive`] with gates of another name (`of`), and ended early when `stop`, asked every 200 ms, says so: then
    /// nothing more is sent, and what is in flight is waited for.
    ///
    /// # Errors
    /// As of [`Lab::drive`].
    pub async fn drive_until<C: Caller + 'static>(
        &mut self,
        test: &mut Test,
        load: Load,
        caller: C,
        (purpose, of): (Purpose, &str),
        stop: impl AsyncFnMut(&Live) -> bool,
    ) -> Result<Driven<C>, RunError> {
        let warm_up = load.warm_up;
        let mut load = load;
        if let Some(target) = purpose.target_ms {
            load.late_after = load.late_after.max(Duration::from_secs_f64(target * 0.05 / 1_000.0));
        }
        let running = load::start(load, caller)?;
        self.watch(&running, stop).await;
        let (seen, caller) = running.end().await?;
        let end = seen.began + clock::nanos(seen.window);
        let drained = clock::now();
        for (stage, from, to) in [
            (Part::Warmup, seen.began - clock::nanos(warm_up), seen.began),
            (Part::Measure, seen.began, end),
            (Part::Drain, end, drained),
        ] {
            if to > from {
                test.windows.push(Window { stage, t0: self.time(from), t1: self.time(to) });
            }
        }
        let samples = self.sampler.between(seen.began, end);
        let ledger = CpuLedger::of(&samples);
        let _ = self.lag.add(&seen.lag);
        gates::of_load(&mut self.gates, of, &seen, purpose, self.floor_p99_ms);
        gates::of_machine(&mut self.gates, of, &samples, &ledger, purpose);
        Ok(Driven { seen, caller, samples, ledger })
    }

    /// Shows how a load goes until it is over.
    async fn watch<C>(&mut self, running: &Running<C>, mut stop: impl AsyncFnMut(&Live) -> bool) {
        let live = &running.live;
        let mut last = (0, clock::now());
        while !running.is_over() {
            tokio::time::sleep(LOOK).await;
            if stop(live).await {
                live.stop();
            }
            let (ok, at) = (live.ok.load(Ordering::Relaxed), clock::now());
            let rate = (ok - last.0) as f64 * 1e9 / (at - last.1).max(1) as f64;
            last = (ok, at);
            let p95 = live.p95.load(Ordering::Relaxed) as f64 / 1_000.0;
            let errors = live.not_ok.load(Ordering::Relaxed);
            self.progress.tick(&format!("{rate:.0}/s  p95 {p95:.1} ms  {errors} errors"));
        }
    }

    /// Where a load goes: the deployment under test or the one given.
    ///
    /// # Errors
    /// When it has no address.
    pub fn target(&self, deployment: Option<&Deployment>) -> Result<(SocketAddr, String), SutError> {
        self.api(deployment)?.target()
    }

    /// The API under test.
    ///
    /// # Errors
    /// When there is none.
    pub fn api<'a>(&'a self, deployment: Option<&'a Deployment>) -> Result<&'a Api, SutError> {
        match (&self.url, deployment) {
            (Some(api), _) => Ok(api),
            (None, Some(deployment)) => deployment.api(),
            (None, None) => Err(SutError::Server("nothing is deployed".to_owned())),
        }
    }
}
