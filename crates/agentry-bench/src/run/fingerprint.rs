//! The machine, servers and binary of a run.

use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::path::Path;

use super::floor;
use super::lab::Lab;
use crate::model::{Binary, Engine, Fingerprint, Machine, ServerFacts};

/// Reads the facts that make two runs comparable.
pub(super) async fn take(lab: &Lab) -> Fingerprint {
    let mut print = Fingerprint {
        hash: String::new(),
        machine: machine(&std::env::temp_dir()),
        servers: servers(lab).await,
        agentry: Binary {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            git: option_env!("AGENTRY_GIT").unwrap_or_default().to_owned(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            allocator: "mimalloc".to_owned(),
        },
        llm_profile: "as each test says".to_owned(),
    };
    print.seal();
    print
}

/// Reads the facts of the machine; `folder` holds the data of the run.
fn machine(folder: &Path) -> Machine {
    let info = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of_cpu = |key: &str| {
        let line = info.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let first = |path: &str| read_to_string(path).ok().map(|text| text.trim().to_owned());
    let memory = first("/proc/meminfo").unwrap_or_default();
    let kib = memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    let (filesystem, device) = mount_of(folder);
    let syncs = floor::of_syncs(folder);
    let cgroup = |file: &str| first(&format!("/sys/fs/cgroup/{file}"));
    let cpus = cgroup("cpu.max").and_then(|text| {
        let (quota, period) = text.split_once(' ')?;
        Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
    });
    Machine {
        cpu_model: of_cpu("model name"),
        cpus: u32::try_from(crate::sample::processors()).unwrap_or(u32::MAX),
        mhz: of_cpu("cpu MHz").and_then(|text| text.parse().ok()),
        virt: info
            .contains(" hypervisor")
            .then(|| first("/sys/class/dmi/id/sys_vendor").unwrap_or("a hypervisor".into())),
        kernel: first("/proc/sys/kernel/osrelease"),
        ram_bytes: kib.unwrap_or(0) * 1_024,
        filesystem,
        device,
        fdatasync_p50_us: syncs.map(|(median, _)| median),
        fdatasync_p99_us: syncs.map(|(_, p99)| p99),
        timer_overshoot_p99_us: Some(floor::of_timers()),
        governor: first("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        cgroup_cpus: cpus,
        cgroup_memory_bytes: cgroup("memory.max").and_then(|text| text.parse().ok()),
    }
}

/// Returns the file system and the device of the longest mount point that holds the folder.
fn mount_of(folder: &Path) -> (Option<String>, Option<String>) {
    let mounts = read_to_string("/proc/mounts").unwrap_or_default();
    let of = |line: &str| {
        let mut fields = line.split(' ');
        let (device, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        folder.starts_with(point).then(|| (point.len(), kind.to_owned(), device.to_owned()))
    };
    let found = mounts.lines().filter_map(of).max_by_key(|(length, ..)| *length);
    found.map_or((None, None), |(_, kind, device)| (Some(kind), Some(device)))
}

async fn servers(lab: &Lab) -> Vec<ServerFacts> {
    if lab.engine == Engine::Embedded {
        let settings = [("journal_mode", "wal"), ("synchronous", "full")];
        return vec![facts("sqlite", "as built into the binary", &settings)];
    }
    let Some(servers) = lab.running_servers() else { return Vec::new() };
    let mut all = Vec::new();
    let names = ["fsync", "synchronous_commit", "shared_buffers", "full_page_writes", "wal_level"];
    let sql = format!("SELECT name, setting FROM pg_settings WHERE name IN ('{}') ORDER BY 1", names.join("','"));
    let rows = servers.postgres.rows(&sql).await.unwrap_or_default();
    let version = servers.postgres.rows("SHOW server_version").await.unwrap_or_default();
    let version = version.first().and_then(|row| row.first().cloned()).unwrap_or_default();
    let settings = rows.into_iter().filter_map(|row| Some((row.first()?.clone(), row.get(1)?.clone())));
    all.push(ServerFacts { name: "postgresql".to_owned(), version, settings: settings.collect() });
    let info = servers.redis.ask("INFO server").await.unwrap_or_default();
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or_default().to_owned();
    all.push(facts("redis", &version, &[("appendonly", "no"), ("save", "none")]));
    let version = rabbitmq_version(servers.rabbitmq.port).await.unwrap_or_default();
    all.push(facts("rabbitmq", &version, &[("queues", "as the platform declares them")]));
    all
}

fn facts(name: &str, version: &str, settings: &[(&str, &str)]) -> ServerFacts {
    let settings: BTreeMap<String, String> =
        settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    ServerFacts { name: name.to_owned(), version: version.to_owned(), settings }
}

/// Returns the version of a broker that accepts a connection.
async fn rabbitmq_version(port: u16) -> Option<String> {
    let url = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
    let connection = lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await.ok()?;
    let version = connection.status().connected().then(|| "stated by the broker on connect".to_owned());
    let _ = connection.close(200, "OK".into()).await;
    version
}
