//! Debian and root: installs the packages that are missing, without starting what they bring.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use agentry_lab::{Service, is_root};
use anyhow::{Context, Result, bail};

use crate::process::output_within;
use crate::say;

/// Package lists and three servers with their libraries (about 150 MB) over a slow line.
const APT: Duration = Duration::from_secs(900);
/// Packages ask this script whether they may start their service; 101 means no.
const POLICY: &str = "/usr/sbin/policy-rc.d";

pub fn install(services: &[Service]) -> Result<()> {
    let packages: Vec<&str> = services.iter().map(|service| service.package()).collect();
    install_packages(&packages)
}

/// Installs packages by name, under the same conditions.
pub fn install_packages(packages: &[&str]) -> Result<()> {
    let os = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !is_debian(&os) {
        bail!("packages are installed by us on Debian and its descendants only");
    }
    if !is_root() {
        bail!("packages are installed by us as root only");
    }
    say(&format!("apt-get: installing {}\n", packages.join(", ")));
    let _policy = AptPolicy::forbid_starting()?;
    output_within(apt().arg("update"), APT)?;
    output_within(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages), APT).map(drop)
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("--quiet").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// `ID` or `ID_LIKE` of `/etc/os-release` names Debian.
fn is_debian(os_release: &str) -> bool {
    os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .any(|names| names.trim_matches('"').split(' ').any(|name| name == "debian"))
}

/// Forbids packages to start services as long as it lives; a policy that is already there is left alone.
struct AptPolicy {
    ours: bool,
}

impl AptPolicy {
    fn forbid_starting() -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        std::fs::write(POLICY, "#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {POLICY}"))?;
        let policy = Self { ours: true };
        std::fs::set_permissions(POLICY, std::fs::Permissions::from_mode(0o755))?;
        Ok(policy)
    }
}

impl Drop for AptPolicy {
    fn drop(&mut self) {
        if self.ours {
            // Left behind it would only keep services from starting at installation; there is nobody to tell.
            let _ = std::fs::remove_file(POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_and_its_descendants_are_known() {
        assert!(is_debian("NAME=\"Debian\"\nID=debian\n"));
        assert!(is_debian("ID=pop\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian("ID=fedora\nID_LIKE=\"rhel\"\nHOME_URL=\"https://debian.org\"\n"));
        assert!(!is_debian(""));
    }
}
