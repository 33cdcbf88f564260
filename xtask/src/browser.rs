//! A browser for tests: finds Chromium and Node, else installs the packages of Debian; the two Node packages that drive
//! it and check accessibility go into the build folder, at fixed versions.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use agentry_lab::find_executable;
use anyhow::{Context, Result, bail};

use crate::process::output_within;
use crate::services::apt;
use crate::workspace::Workspace;
use crate::{cargo, run, say};

/// Packages that drive the browser and check accessibility.
const PACKAGES: [&str; 2] = ["puppeteer-core@24.43.1", "axe-core@4.14.1"];
/// npm over a slow line.
const NPM: Duration = Duration::from_secs(300);
/// The browser's names.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// The browser and the packages, as tests are told.
pub fn variables(workspace: &Workspace) -> Result<Vec<(&'static str, PathBuf)>> {
    let mut missing = Vec::new();
    if browser().is_none() {
        missing.push("chromium");
    }
    if find_executable("node", &[]).is_none() || find_executable("npm", &[]).is_none() {
        missing.extend(["nodejs", "npm"]);
    }
    if !missing.is_empty() {
        apt::install_packages(&missing).with_context(|| {
            let names = missing.join(" ");
            format!("tests of the dashboard need {names}\n  = help: install them (Debian: apt-get install {names})")
        })?;
    }
    let Some(browser) = browser() else { bail!("chromium was installed and is not on the path") };
    Ok(vec![("AGENTRY_TEST_CHROMIUM", browser), ("AGENTRY_TEST_NODE_MODULES", packages(workspace)?)])
}

fn browser() -> Option<PathBuf> {
    BROWSERS.iter().find_map(|name| find_executable(name, &[]))
}

/// The packages, installed once for each set of versions.
fn packages(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target.join("browser");
    let (modules, mark) = (folder.join("node_modules"), folder.join("installed"));
    let wanted = PACKAGES.join("\n");
    if std::fs::read_to_string(&mark).is_ok_and(|found| found == wanted) && modules.is_dir() {
        return Ok(modules);
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    std::fs::write(folder.join("package.json"), "{\"private\": true}\n").context("cannot write package.json")?;
    say(&format!("npm: installing {}\n", PACKAGES.join(", ")));
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts"])
        .args(PACKAGES)
        .current_dir(&folder);
    output_within(&mut npm, NPM).context("npm could not install what tests of the dashboard need")?;
    std::fs::write(&mark, wanted).context("cannot write the mark of the installed packages")?;
    Ok(modules)
}

/// `cargo xtask browser`: what tests use.
pub fn command() -> Result<()> {
    for (name, path) in variables(&Workspace::find()?)? {
        crate::print(&format!("{name}={}\n", path.display()));
    }
    Ok(())
}

/// The pictures that the guide shows, of those that the tests take.
const IN_THE_GUIDE: [&str; 7] = [
    "fleet-light.png",
    "task-failed-light.png",
    "task-light.png",
    "plan-light.png",
    "people-light.png",
    "schedules-light.png",
    "usage-dark.png",
];

/// `cargo xtask screenshots [FOLDER | --guide]`: pictures of every page, in light, dark and on a phone; with `--guide` those
/// that the guide shows are made anew.
pub fn screenshots(arguments: &[String]) -> Result<()> {
    let workspace = Workspace::find()?;
    let guide = arguments.first().is_some_and(|first| first == "--guide");
    let named = arguments.first().filter(|_| !guide);
    let folder = named.map_or_else(|| workspace.target.join("screenshots"), PathBuf::from);
    let folder = std::path::absolute(folder).context("not a folder")?;
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--test", "browser"]).envs(variables(&workspace)?);
    run(tests.env("AGENTRY_SCREENSHOTS", &folder))?;
    say(&format!("screenshots: {}\n", folder.display()));
    if guide {
        let images = workspace.root.join("docs/images");
        std::fs::create_dir_all(&images).with_context(|| format!("cannot make {}", images.display()))?;
        for name in IN_THE_GUIDE {
            std::fs::copy(folder.join(name), images.join(name)).with_context(|| format!("no picture {name}"))?;
        }
        say(&format!("the guide's pictures: {}\n", images.display()));
    }
    Ok(())
}
