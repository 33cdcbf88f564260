//! The dashboard in a real browser: headless Chromium, driven by `pages.mjs` through puppeteer-core, on the real binary.
//!
//! Chromium and the two Node packages (puppeteer-core, axe-core) are found or installed by `cargo xtask browser`, which
//! `cargo xtask test` runs; where something is missing the test fails and says so. Screenshots of every page in light,
//! dark and at the width of a phone are left in `target/screenshots`, or where `AGENTRY_SCREENSHOTS` says.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may stop at the first surprise, and says what it saw"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Server, folder_with_fleet};
use tempfile::TempDir;

#[allow(dead_code, reason = "shared with another test, which uses more of it")]
#[path = "../it/support.rs"]
mod support;

const HELP: &str =
    "run `cargo xtask browser`, which finds or installs Chromium and the packages, and set what it prints";

/// The example fleet, one agent whose file is bad, and one whose words try to be markup.
fn serve() -> (TempDir, Server) {
    let folder = folder_with_fleet();
    let agents = folder.path().join("agents");
    let bad = "name: refunds\nexecution_mode: autonomous\nsystem_prompt: x\nllm_config:\n  provider: openai\n  modle: gpt-4o-mini\n";
    std::fs::write(agents.join("refunds.yml"), bad).unwrap();
    let evil = "name: evil\nexecution_mode: continuous\ndescription: '<img src=x onerror=window.pwned=1>'\n\
                tags: ['<script>window.pwned=1</script>']\nsystem_prompt: '</script><script>window.pwned=1</script>'\n\
                llm_config:\n  provider: simulated\n  model: '\"><svg onload=window.pwned=1>'\n";
    std::fs::write(agents.join("evil.yml"), evil).unwrap();
    let report = folder.path().join("bench-reports/quick-1");
    std::fs::create_dir_all(&report).unwrap();
    std::fs::write(report.join("report.html"), "<!doctype html><title>quick</title><p>a report").unwrap();
    let server = Server::start(folder.path());
    (folder, server)
}

/// A path from the environment, or from where `cargo xtask browser` puts it.
fn found(variable: &str, usual: &[PathBuf]) -> PathBuf {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let all = named.into_iter().chain(usual.iter().cloned());
    all.into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{variable} names nothing that is there: {HELP}"))
}

/// The build folder: the binary lies in `target/debug`.
fn target() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_agentry")).ancestors().nth(2).unwrap().to_owned()
}

#[test]
fn every_page_and_every_action_works_in_a_browser() {
    let chromium = found("AGENTRY_TEST_CHROMIUM", &["/usr/bin/chromium".into(), "/usr/bin/google-chrome".into()]);
    let modules = found("AGENTRY_TEST_NODE_MODULES", &[target().join("browser/node_modules")]);
    let shots = std::env::var_os("AGENTRY_SCREENSHOTS").map_or_else(|| target().join("screenshots"), PathBuf::from);
    std::fs::create_dir_all(&shots).unwrap();
    let (_folder, server) = serve();
    let output = Command::new("node")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/pages.mjs"))
        .args([&server.url])
        .args([&chromium, &modules, &shots])
        .output()
        .unwrap_or_else(|error| panic!("node: {error}: {HELP}"));
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    eprintln!("{said}");
    assert!(output.status.success(), "{said}\n{wrong}");
}
