//! Locust and Artillery for the tests of `loadtest/`: fixed versions, installed once into the build folder.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::process::output_within;
use crate::workspace::Workspace;
use crate::{install, say, services};

/// The last version that runs with Node 18 and 20.
const ARTILLERY: &str = "2.0.21";
/// Packages of Artillery's that a run on this machine has no use for: clouds, other engines, reports to services. An empty
/// package takes their place: of 590 MB 200 are left, and of 44 s to install 19.
const LEFT_OUT: [&str; 11] = [
    "@azure/arm-containerinstance",
    "@azure/identity",
    "@azure/storage-blob",
    "@azure/storage-queue",
    "artillery-engine-playwright",
    "artillery-plugin-apdex",
    "artillery-plugin-fake-data",
    "artillery-plugin-publish-metrics",
    "artillery-plugin-slack",
    "dependency-tree",
    "sqs-consumer",
];
/// Tells Artillery's maker of every run, switched off or not, and without a network holds up its end for 12 s. Artillery
/// runs without it.
const TELLTALE: &str = "posthog-node";
/// 90 MB of Python's and 200 MB of Node's packages over a slow line.
const INSTALL: Duration = Duration::from_secs(600);

/// The tools, as tests are told.
pub fn variables(workspace: &Workspace) -> Result<Vec<(&'static str, PathBuf)>> {
    let folder = workspace.target.join("loadtest");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let locust = locust(&workspace.root.join("loadtest/locust/requirements.txt"), &folder)?;
    Ok(vec![("AGENTRY_TEST_LOCUST", locust), ("AGENTRY_TEST_ARTILLERY", artillery(&folder)?)])
}

fn locust(requirements: &Path, folder: &Path) -> Result<PathBuf> {
    let wanted =
        std::fs::read_to_string(requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let (venv, hint) = (folder.join("venv"), "the load tests need Python 3 with venv and, the first time, PyPI");
    install::once(&folder.join("locust-installed"), &wanted, || {
        say("pip: installing Locust\n");
        install::python(&venv, [OsStr::new("-r"), requirements.as_os_str()], INSTALL).context(hint)
    })?;
    Ok(venv.join("bin/locust"))
}

fn artillery(folder: &Path) -> Result<PathBuf> {
    let wanted = package(LEFT_OUT.iter().map(|name| ((*name).to_owned(), json!("file:nothing"))).collect());
    install::once(&folder.join("artillery-installed"), &wanted, || {
        services::ensure_node();
        std::fs::create_dir_all(folder.join("nothing")).context("cannot make the empty package")?;
        std::fs::write(folder.join("nothing/package.json"), "{\"name\": \"nothing\", \"version\": \"0.0.0\"}\n")?;
        std::fs::write(folder.join("nothing/index.js"), "")?;
        // Old versions of npm, such as 9.2 of Debian 12, know no folder in place of a package: they install everything.
        npm_install(folder, &wanted).or_else(|_| npm_install(folder, &package(Map::new())))?;
        let telltale = folder.join("node_modules").join(TELLTALE);
        std::fs::remove_dir_all(&telltale).with_context(|| format!("cannot remove {}", telltale.display()))
    })?;
    Ok(folder.join("node_modules/.bin/artillery"))
}

/// The package.json: Artillery, with replacements of some dependencies.
fn package(overrides: Map<String, Value>) -> String {
    let package = json!({"private": true, "dependencies": {"artillery": ARTILLERY}, "overrides": overrides});
    format!("{package:#}\n")
}

fn npm_install(folder: &Path, package: &str) -> Result<()> {
    say("npm: installing Artillery\n");
    std::fs::write(folder.join("package.json"), package).context("cannot write package.json")?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(folder);
    output_within(&mut npm, INSTALL).context("npm could not install what the load tests need").map(drop)
}

/// `cargo xtask loadtest`: what tests use.
pub fn command() -> Result<()> {
    for (name, path) in variables(&Workspace::find()?)? {
        crate::print(&format!("{name}={}\n", path.display()));
    }
    Ok(())
}
