//! Processor time by process: ours, and the servers'.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cluster_stage::Stage;
use super::server::{Server, cpu_of};

/// What PostgreSQL's own processes are called; the others serve connections, ours and those of strangers.
const POSTGRES_OWN: [&str; 6] =
    ["checkpointer", "background writer", "walwriter", "autovacuum", "stats collector", "archiver"];

/// Processor time by name.
#[derive(Clone, Default)]
pub struct Cpu(BTreeMap<String, Duration>);

impl Cpu {
    /// So far: the processes given, this one, and the servers. Of PostgreSQL's only those that serve this stage, and its
    /// own; RabbitMQ and Redis cannot be told apart by whom they serve.
    pub async fn now(stage: &Stage, processes: &[(&str, &Server)]) -> Self {
        let mut by_name = BTreeMap::new();
        let mut add = |name: &str, cpu: Duration| *by_name.entry(name.to_owned()).or_default() += cpu;
        for (name, server) in processes {
            add(name, server.cpu());
        }
        add("load", cpu_of(std::process::id()));
        let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = $1";
        let ours = stage.client.query(sql, &[&stage.name]).await.unwrap();
        ours.iter().for_each(|row| add("postgres backends", cpu_of(row.get::<_, i32>(0) as u32)));
        for pid in pids() {
            match comm(pid).as_str() {
                "beam.smp" => add("rabbitmq", cpu_of(pid)),
                "redis-server" => add("redis", cpu_of(pid)),
                "postgres" if is_own(pid) => add("postgres log and cleaning", cpu_of(pid)),
                _ => {}
            }
        }
        Self(by_name)
    }

    /// Adds what was used from `before` to `after`.
    pub fn add(&mut self, before: &Self, after: &Self) {
        for (name, cpu) in &after.0 {
            let before = before.0.get(name).copied().unwrap_or_default();
            *self.0.entry(name.clone()).or_default() += cpu.saturating_sub(before);
        }
    }

    /// Milliseconds for each of so many tasks, by name.
    pub fn per_task(&self, tasks: u64) -> String {
        let each = |cpu: &Duration| cpu.as_secs_f64() * 1e3 / tasks as f64;
        let parts: Vec<String> = self.0.iter().map(|(name, cpu)| format!("{name} {:.3}", each(cpu))).collect();
        let all: f64 = self.0.values().map(each).sum();
        format!("CPU-ms per task: {all:.3} = {}", parts.join(" + "))
    }
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn comm(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Whether a process of PostgreSQL serves nobody's connection.
fn is_own(pid: u32) -> bool {
    let title = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    title.strip_prefix("postgres: ").is_some_and(|title| POSTGRES_OWN.iter().any(|own| title.contains(own)))
}

/// TCP connections of a process by the server's port; only those that are established.
pub fn connections(pid: u32) -> BTreeMap<u16, usize> {
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    let mut by_port = BTreeMap::new();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // Local address, remote address, state (01: established) and inode; ports are hexadecimal.
            let (Some(remote), Some(&"01"), Some(inode)) = (fields.get(2), fields.get(3), fields.get(9)) else {
                continue;
            };
            let port = remote.rsplit(':').next().and_then(|hex| u16::from_str_radix(hex, 16).ok());
            if let (Some(port), true) = (port, sockets.iter().any(|socket| socket == inode)) {
                *by_port.entry(port).or_default() += 1;
            }
        }
    }
    by_port
}
