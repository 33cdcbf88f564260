//! Start-up with servers that are up, and what a process takes of them.

use agentry_store::postgres::{PostgresOptions, PostgresStore};

use super::cluster_cpu::connections;
use super::cluster_stage::Stage;
use super::server::Server;
use super::{at_most, load_average, median, spread};

/// Starts that count; one before them makes the queues, as after an installation.
const STARTS: usize = 5;

/// Milliseconds that are asked for.
fn goal(agents: usize) -> f64 {
    match agents {
        0..=50 => 150.0,
        51..=1_000 => 500.0,
        _ => 2_000.0,
    }
}

/// Process start to all agents healthy, each time with a schema of its own that has been migrated before: what stands in
/// one that was used says that agents are healthy before anybody has started them.
pub async fn measure(stage: &Stage, agents: usize) {
    let (mut times, mut counted) = (Vec::new(), String::new());
    for start in 0..=STARTS {
        let options = PostgresOptions { schema: stage.next_schema(), ..PostgresOptions::new(stage.postgres_url()) };
        drop(PostgresStore::connect(options).await.unwrap());
        let server = stage.process("all", &[]);
        server.wait("agentry_agents{state=\"healthy\"}", |healthy| healthy == agents as u64).await;
        let took = server.spawned.elapsed().as_secs_f64() * 1_000.0;
        if start > 0 {
            times.push(took);
        }
        counted = format!("{} queues, connections {}", stage.on_broker("list_queues").len(), connected(stage, &server));
    }
    println!(
        "cluster-startup {agents} agents: {} ms to all healthy ({}); {counted}; {}",
        spread(times.clone()),
        at_most(median(&times), goal(agents)),
        load_average()
    );
}

/// Connections of a process to the servers.
fn connected(stage: &Stage, server: &Server) -> String {
    let ports = stage.ports();
    let counts = connections(server.pid());
    let of = |(name, port): (&str, u16)| format!("{name} {}", counts.get(&port).copied().unwrap_or(0));
    ports.into_iter().map(of).collect::<Vec<_>>().join(", ")
}
