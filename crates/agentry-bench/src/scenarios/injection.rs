//! Injection of the delivery scenario's faults: each under load, healed, and with evidence that it had an effect.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::sleep;

use crate::catalogue::Nemesis;
use crate::load::clock::now;
use crate::run::RunError;
use crate::sut::{Deployment, Servers};
use agentry_lab::{FaultProxy, LabError, Shape, Urls};

/// Longest wait for work under way at the victim.
const BUSY: Duration = Duration::from_secs(10);
/// Evidence that a fault had an effect.
#[derive(Debug, Clone)]
pub(super) struct FaultEvidence {
    /// Time of the injection, on the monotonic clock.
    pub injected: u64,
    /// Time of healing: the victim answers again.
    pub healed: u64,
    /// Whether it provably had an effect.
    pub effective: bool,
    pub proof: String,
}

/// Waits a while, injects, heals.
pub(super) async fn inject(
    nemesis: Nemesis,
    deployment: &mut Deployment,
    servers: Option<&mut Servers>,
    clients: &FaultProxy,
    quiet: Duration,
) -> Result<FaultEvidence, RunError> {
    sleep(quiet).await;
    let no_servers = || LabError::Server("this fault needs servers of the run's own".to_owned());
    match nemesis {
        Nemesis::ConsumerKilled => {
            let name = if deployment.names().iter().any(|name| name == "worker-1") { "worker-1" } else { "agentry" };
            kill(deployment, name).await
        }
        Nemesis::PublisherKilled => kill(deployment, "api").await,
        Nemesis::WorkerFrozen => freeze(deployment, "worker-1").await,
        Nemesis::ClientsReset => {
            let injected = now();
            // Again and again for a moment: a request must be on its way when it happens.
            for _ in 0..20 {
                clients.reset();
                sleep(Duration::from_millis(25)).await;
            }
            let cut = clients.counters().cut;
            Ok(FaultEvidence { injected, healed: now(), effective: cut > 0, proof: format!("{cut} connections reset") })
        }
        Nemesis::ClientsCut => {
            let injected = now();
            clients.shape_both(Shape::black_hole());
            sleep(Nemesis::CUT).await;
            clients.heal();
            let held = clients.counters().held;
            Ok(FaultEvidence {
                injected,
                healed: now(),
                effective: held > 0,
                proof: format!("{held} bytes and connections held back"),
            })
        }
        Nemesis::WorkerCut => cut_worker(deployment, servers.ok_or_else(no_servers)?).await,
        Nemesis::BrokerStopped => broker(servers.ok_or_else(no_servers)?, Signal::TERM).await,
        Nemesis::BrokerKilled => broker(servers.ok_or_else(no_servers)?, Signal::KILL).await,
    }
}

async fn kill(deployment: &mut Deployment, name: &str) -> Result<FaultEvidence, RunError> {
    let busy = deployment.api()?.until_metric("agentry_tasks{status=\"running\"}", BUSY, |running| running > 0.0).await;
    let injected = now();
    deployment.lab.kill(name)?;
    let running = busy.unwrap_or(0.0);
    deployment.start_again(name).await?;
    let healed = now();
    let proof = format!("{running:.0} tasks were running when {name} was killed; it is gone and was started again");
    Ok(FaultEvidence { injected, healed, effective: running > 0.0, proof })
}

async fn freeze(deployment: &mut Deployment, name: &str) -> Result<FaultEvidence, RunError> {
    let victim = deployment.api_of(name)?.clone();
    let busy = victim.until_metric("agentry_worker_slots_busy", BUSY, |used| used > 0.0).await.unwrap_or(0.0);
    let before = recovered_beside(deployment, name).await;
    let injected = now();
    deployment.lab.signal(name, Signal::STOP)?;
    sleep(Nemesis::FROZEN).await;
    let taken = recovered_beside(deployment, name).await - before;
    let healed = now();
    deployment.lab.signal(name, Signal::CONT)?;
    let proof = format!("{busy:.0} tasks were running on {name}; {taken:.0} tasks were taken over while it was frozen");
    Ok(FaultEvidence { injected, healed, effective: taken > 0.0, proof })
}

/// Tasks that every process but the victim has taken over.
async fn recovered_beside(deployment: &Deployment, victim: &str) -> f64 {
    let mut sum = 0.0;
    for name in deployment.names().iter().filter(|name| *name != victim) {
        let Ok(api) = deployment.api_of(name) else { continue };
        let metrics = api.metrics().await.unwrap_or_default();
        sum += metrics.sum("agentry_tasks_recovered_total").unwrap_or(0.0);
    }
    sum
}

/// The worker is started again through links, which then fall silent.
async fn cut_worker(deployment: &mut Deployment, servers: &mut Servers) -> Result<FaultEvidence, RunError> {
    let failed = |error: std::io::Error| LabError::Server(format!("no fault proxy: {error}"));
    let to = |port: u16| std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port));
    let postgres = FaultProxy::start(to(servers.postgres.port), 1).await.map_err(failed)?;
    let rabbitmq = FaultProxy::start(to(servers.rabbitmq.port), 2).await.map_err(failed)?;
    let redis = FaultProxy::start(to(servers.redis.port), 3).await.map_err(failed)?;
    let links = [postgres, rabbitmq, redis];
    let port = |at: usize| links[at].address().port();
    deployment.detour("worker-1", Urls::at(port(0), port(1), port(2)));
    deployment.lab.stop("worker-1").await?;
    deployment.start_again("worker-1").await?;
    sleep(Duration::from_secs(1)).await;
    let injected = now();
    links.iter().for_each(|link| link.shape_both(Shape::black_hole()));
    sleep(Nemesis::CUT).await;
    links.iter().for_each(FaultProxy::heal);
    let healed = now();
    let held: u64 = links.iter().map(|link| link.counters().held).sum();
    // The links stay until the worker ends with the deployment: without them it is started again directly.
    deployment.lab.stop("worker-1").await?;
    deployment.detour("worker-1", servers.urls());
    deployment.start_again("worker-1").await?;
    let proof = format!("{held} bytes and connections held back in {} s", Nemesis::CUT.as_secs());
    Ok(FaultEvidence { injected, healed, effective: held > 0, proof })
}

async fn broker(servers: &mut Servers, signal: Signal) -> Result<FaultEvidence, RunError> {
    let injected = now();
    servers.rabbitmq.stop(signal).await?;
    servers.rabbitmq.start_again().await?;
    let proof = format!("the broker's process ended by signal and another answers on port {}", servers.rabbitmq.port);
    Ok(FaultEvidence { injected, healed: now(), effective: true, proof })
}
