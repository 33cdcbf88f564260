//! State that scenarios share during a run: deployments, servers, samplers, and results besides
//! their own figures.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use agentry_lab::{LabError, ProcessGroup, Urls};
use hdrhistogram::Histogram;
use tempfile::TempDir;

use super::error::RunError;
use super::gates;
use super::progress::Progress;
use crate::catalogue::Nemesis;
use crate::estimate::LivePlan;
use crate::load::{self, Caller, Live, Load, LoadHandle, Recording, clock};
use crate::model::{Engine, Fault, Gate, Invariant, Phase, Profile, Stage, Test, Window};
use crate::sample::{CpuLedger, Part, Sampler, Samples};
use crate::stats::histogram;
use crate::sut::{Api, Deployment, Plan, Servers};

/// Interval at which the progress of a load is shown.
const LOOK: Duration = Duration::from_millis(200);

/// State that scenarios share.
pub struct Lab {
    pub profile: Profile,
    pub engine: Engine,
    /// API of a deployment that runs already and is measured instead of our own.
    pub url: Option<Api>,
    /// Faults of 3.2; those of the profile when empty.
    pub only_faults: Vec<Nemesis>,
    /// Real providers that 5.1 calls.
    pub live: Option<LivePlan>,
    /// Cost of their calls so far, in billionths of a dollar; known also of a run that is interrupted.
    pub live_spent: Arc<AtomicI64>,
    pub phase: Phase,
    /// Seed of arrivals, order and faults.
    pub seed: u64,
    /// Folder of the report.
    pub out: PathBuf,
    pub sampler: Arc<Sampler>,
    pub progress: Progress,
    pub gates: Vec<Gate>,
    pub faults: Vec<Fault>,
    pub safety: Vec<Invariant>,
    /// Delay of all sends of the run, in microseconds.
    pub lag: Histogram<u64>,
    /// 99th percentile of a request to a server on loopback that does nothing, in milliseconds.
    pub floor_p99_ms: Option<f64>,
    /// Notes beside the harness's own figures.
    pub notes: Vec<String>,
    /// Start of the run, on the monotonic clock in nanoseconds.
    t0: u64,
    opened: u32,
    servers: Option<Servers>,
    folder: TempDir,
}

/// Result of a load with the samples of its window.
pub struct LoadResult<C> {
    pub seen: Recording,
    pub caller: C,
    pub samples: Samples,
    /// Processor use within the window.
    pub ledger: CpuLedger,
}

/// Purpose of a load, which decides its gates.
#[derive(Debug, Clone, Copy)]
pub struct Purpose {
    /// The latency that a criterion asks for, in milliseconds: the harness must be finer than a part of it.
    pub target_ms: Option<f64>,
    /// The load looks for the limit of the machine: then the harness's own share is reported and forbids nothing.
    pub capacity: bool,
}

impl Purpose {
    /// Makes the purpose of a load at the rate and latency of a criterion.
    pub fn target(ms: f64) -> Self {
        Self { target_ms: Some(ms), capacity: false }
    }

    /// Makes the purpose of a load that looks for the limit of the machine.
    pub fn capacity() -> Self {
        Self { target_ms: None, capacity: true }
    }
}

/// Raises the limit of open files as far as the system allows: an open loop needs a connection for each request in flight.
/// Requests without a connection count as failed.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Adds the processes of the servers to the sampler.
fn watch(servers: &Servers, sampler: &Sampler) {
    sampler.watch(Part::Postgres, servers.postgres.process.pid());
    sampler.watch(Part::RabbitMq, servers.rabbitmq.process.pid());
    sampler.watch(Part::Redis, servers.redis.process.pid());
}

impl Lab {
    /// Makes an empty state; the run begins now.
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

    /// Returns the seconds from the run's start to a moment of the monotonic clock.
    pub fn time(&self, moment: u64) -> f64 {
        (moment as f64 - self.t0 as f64) / 1e9
    }

    /// Returns the seconds since the run's start.
    pub fn now(&self) -> f64 {
        self.time(clock::now())
    }

    /// Derives a seed for one purpose.
    pub fn seed_of(&self, what: &str) -> u64 {
        // FNV-1a: stable over versions of the library.
        what.bytes().fold(self.seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// Returns the servers of the cluster engine; starts them at the first call.
    pub async fn servers(&mut self) -> Result<&mut Servers, LabError> {
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
        self.servers.as_mut().ok_or_else(|| LabError::Server("the servers are gone".to_owned()))
    }

    /// Returns the servers, when they run.
    pub fn running_servers(&self) -> Option<&Servers> {
        self.servers.as_ref()
    }

    /// Takes the servers for a fault injection beside a load; [`Lab::give_servers`] returns them.
    pub fn take_servers(&mut self) -> Option<Servers> {
        self.servers.take()
    }

    /// Returns the servers, some of whose processes may have been replaced.
    pub fn give_servers(&mut self, servers: Option<Servers>) {
        if let Some(servers) = &servers {
            watch(servers, &self.sampler);
        }
        self.servers = servers;
    }

    async fn place(&mut self) -> Result<(Option<Urls>, String), LabError> {
        self.opened += 1;
        let name = format!("bench_{}", self.opened);
        let urls = match self.engine {
            Engine::Embedded => None,
            Engine::Cluster => Some(self.servers().await?.urls()),
        };
        Ok((urls, name))
    }

    /// Starts a deployment and waits until its agents are healthy; it has a schema and a prefix of its own.
    pub async fn deploy(&mut self, plan: Plan) -> Result<Deployment, LabError> {
        let (urls, name) = self.place().await?;
        Deployment::open(self.engine, urls, &name, plan, &self.sampler).await
    }

    /// Prepares a deployment of which only the simulators run.
    pub async fn prepare(&mut self, plan: Plan) -> Result<Deployment, LabError> {
        let (urls, name) = self.place().await?;
        Deployment::prepare(self.engine, urls, &name, plan, &self.sampler).await
    }

    /// Makes an empty test of the running phase.
    pub fn test(&self, id: &str, title: &str, llm_profile: &str) -> Test {
        let mode = if self.url.is_some() { "external" } else { self.engine.word() };
        Test::new(id, title, self.phase, mode, llm_profile)
    }

    /// Drives a load for a test: shows its progress, adds its windows and gates.
    pub async fn drive<C: Caller + 'static>(
        &mut self,
        test: &mut Test,
        load: Load,
        caller: C,
        purpose: Purpose,
    ) -> Result<LoadResult<C>, RunError> {
        // A load that looks for the limit of the machine may not void what was measured below it.
        let of = if purpose.capacity { format!("{} at the limit", test.id) } else { test.id.clone() };
        self.drive_until(test, load, caller, (purpose, &of), async |_| false).await
    }

    /// Drives a load as [`Lab::drive`] does, with gates of another name (`of`), and ends it early when `stop`, asked every 200 ms,
    /// returns true: then nothing more is sent, and requests in flight are waited for.
    pub async fn drive_until<C: Caller + 'static>(
        &mut self,
        test: &mut Test,
        load: Load,
        caller: C,
        (purpose, of): (Purpose, &str),
        stop: impl AsyncFnMut(&Live) -> bool,
    ) -> Result<LoadResult<C>, RunError> {
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
            (Stage::Warmup, seen.began - clock::nanos(warm_up), seen.began),
            (Stage::Measure, seen.began, end),
            (Stage::Drain, end, drained),
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
        Ok(LoadResult { seen, caller, samples, ledger })
    }

    /// Shows the progress of a load until it is over.
    async fn watch<C>(&mut self, running: &LoadHandle<C>, mut stop: impl AsyncFnMut(&Live) -> bool) {
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

    /// Returns the address and host that a load is sent to.
    pub fn target(&self, deployment: Option<&Deployment>) -> Result<(SocketAddr, String), LabError> {
        self.api(deployment)?.target()
    }

    /// Returns the API under test: that of `--url`, else that of the deployment.
    pub fn api<'a>(&'a self, deployment: Option<&'a Deployment>) -> Result<&'a Api, LabError> {
        match (&self.url, deployment) {
            (Some(api), _) => Ok(api),
            (None, Some(deployment)) => deployment.api(),
            (None, None) => Err(LabError::Server("nothing is deployed".to_owned())),
        }
    }
}
