//! Servers in containers, where a daemon answers and Compose is there: the images that are deployed.

use std::process::Command;
use std::time::Duration;

use agentry_lab::{Service, numbers};
use anyhow::{Context, Result, bail};

use crate::process::output_within;
use crate::say;
use crate::workspace::Workspace;

/// Timeout of the version query of the daemon.
const DAEMON: Duration = Duration::from_secs(10);
/// Pulling three images and booting them.
const UP: Duration = Duration::from_secs(600);
/// Containers get 10 s to end by themselves.
const DOWN: Duration = Duration::from_secs(120);

/// Checks that the daemon and the plugin are available.
pub fn available() -> Result<()> {
    output_within(Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]), DAEMON)
        .context("no docker daemon answers")?;
    output_within(Command::new("docker").args(["compose", "version"]), DAEMON)
        .context("docker has no `compose` plugin")
        .map(drop)
}

/// Starts these and gives their URLs.
pub fn start(workspace: &Workspace, services: &[Service]) -> Result<Vec<(Service, String)>> {
    say("docker compose: starting containers (images are pulled the first time)\n");
    let words = services.iter().map(|service| service.word());
    output_within(compose(workspace).args(["up", "--detach", "--wait"]).args(words), UP)?;
    services.iter().map(|service| Ok((*service, service.url(published(workspace, *service)?)))).collect()
}

/// Ends them and removes their volumes.
pub fn stop(workspace: &Workspace) -> Result<()> {
    output_within(compose(workspace).args(["down", "--volumes"]), DOWN).map(drop)
}

fn compose(workspace: &Workspace) -> Command {
    let folder = workspace.root.join("deploy").join("compose");
    let mut command = Command::new("docker");
    command.args(["compose", "--project-name", &format!("agentry-{}", workspace.key().to_lowercase())]);
    command.arg("--file").arg(folder.join("services.yml"));
    command
}

/// The port on loopback behind which a container listens.
fn published(workspace: &Workspace, service: Service) -> Result<u16> {
    let port = service.standard_port().to_string();
    let said = output_within(compose(workspace).args(["port", service.word(), &port]), DAEMON)?;
    let Some(found) = port_of(&said) else { bail!("`docker compose port` said `{}`", said.trim()) };
    Ok(found)
}

fn port_of(said: &str) -> Option<u16> {
    numbers(said.trim().rsplit_once(':')?.1).first().and_then(|port| u16::try_from(*port).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_port_is_read() {
        assert_eq!(port_of("127.0.0.1:32768\n"), Some(32_768));
        assert_eq!(port_of(":0"), Some(0));
        assert_eq!(port_of("no container"), None);
        assert_eq!(port_of("127.0.0.1:99999"), None);
    }
}
