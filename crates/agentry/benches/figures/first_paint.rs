//! The dashboard's first contentful paint in a real browser, and what it transfers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::server::Server;
use super::{at_most, load_average, median, spread, startup};

/// Agents that the first page shows.
const AGENTS: usize = 50;
/// Fresh browser contexts.
const CONTEXTS: usize = 10;
/// In milliseconds.
const PAINT_GOAL: f64 = 300.0;
/// In bytes: 150 KB.
const BYTES_GOAL: f64 = 150e3;

/// What `first_paint.mjs` prints.
#[derive(Deserialize)]
struct Seen {
    /// Milliseconds from navigation to the first contentful paint.
    paints: Vec<f64>,
    /// Bytes as transferred, headers too.
    bytes: Vec<f64>,
}

/// `/` on loopback in Chromium, where it and puppeteer-core are as for the test of the dashboard.
pub async fn measure() {
    match tools() {
        Ok((chromium, modules)) => visits(&chromium, &modules).await,
        Err(missing) => {
            println!("first contentful paint: not taken: {missing}; `cargo xtask browser` finds or installs it")
        }
    }
}

async fn visits(chromium: &Path, modules: &Path) {
    let server = Server::start(&startup::fleet(AGENTS), &["--sim"]);
    server.wait("agentry_agents{state=\"healthy\"}", |healthy| healthy == AGENTS as u64).await;
    let said = Command::new("node")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/figures/first_paint.mjs"))
        .arg(format!("http://{}/", server.address))
        .args([chromium, modules])
        .arg(CONTEXTS.to_string())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(said.status.success(), "the browser failed: {}", said.status);
    let seen: Seen = serde_json::from_slice(&said.stdout).unwrap();
    println!(
        "first contentful paint of / with {AGENTS} agents, {CONTEXTS} fresh contexts: {} ms, median {}; {} bytes, median {}; {}",
        spread(seen.paints.clone()),
        at_most(median(&seen.paints), PAINT_GOAL),
        spread(seen.bytes.clone()),
        at_most(median(&seen.bytes), BYTES_GOAL),
        load_average(),
    );
}

/// Chromium and the folder of Node's packages, found as by the test of the dashboard; else what is missing.
fn tools() -> Result<(PathBuf, PathBuf), String> {
    let target = Path::new(env!("CARGO_BIN_EXE_agentry")).ancestors().nth(2).unwrap();
    let chromium = found("AGENTRY_TEST_CHROMIUM", &["/usr/bin/chromium".into(), "/usr/bin/google-chrome".into()])?;
    let modules = found("AGENTRY_TEST_NODE_MODULES", &[target.join("browser/node_modules")])?;
    if !modules.join("puppeteer-core").is_dir() {
        return Err(format!("no puppeteer-core in {}", modules.display()));
    }
    let node = Command::new("node").arg("--version").output();
    node.map_err(|error| format!("no node: {error}"))?;
    Ok((chromium, modules))
}

/// A path from the environment, or where it usually is.
fn found(variable: &str, usual: &[PathBuf]) -> Result<PathBuf, String> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let found = named.into_iter().chain(usual.iter().cloned()).find(|path| path.exists());
    found.ok_or_else(|| format!("{variable} names nothing that is there"))
}
