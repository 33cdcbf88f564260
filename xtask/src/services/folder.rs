//! The data folder of a server that we start, which its user must be able to access.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use agentry_lab::{Service, account_for};
use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// The folder that a server is to have, without what was in it. Whoever ran in it before must have been ended.
pub fn fresh(workspace: &Workspace, service: Service) -> Result<PathBuf> {
    let dir = base_for(workspace, account_for(service)?)?.join(service.word());
    remove(&dir)?;
    Ok(dir)
}

/// Removes a folder of ours and everything in it.
pub fn remove(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// The build folder, or one under the system's temporary folder where the server's user cannot get to the first
/// (a home folder is usually closed to others).
fn base_for(workspace: &Workspace, account: Option<(u32, u32)>) -> Result<PathBuf> {
    let usual = super::folder(workspace).join("data");
    std::fs::create_dir_all(&usual).with_context(|| format!("cannot make {}", usual.display()))?;
    if account.is_none_or(|(user, _)| reaches(user, &usual)) {
        return Ok(usual);
    }
    let other = std::env::temp_dir().join(format!("agentry-services-{}", workspace.key()));
    if let Err(error) = std::fs::create_dir(&other)
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(error).with_context(|| format!("cannot make {}", other.display()));
    }
    // Others may write to the temporary folder: what is there under our name must be ours.
    let found = other.symlink_metadata().with_context(|| other.display().to_string())?;
    if !found.is_dir() || found.uid() != usual.metadata()?.uid() {
        bail!(
            "{} belongs to somebody else: remove it, or set CARGO_TARGET_DIR to a folder open to all",
            other.display()
        );
    }
    Ok(other)
}

/// Returns whether a user can traverse all folders down to this one; groups are ignored.
fn reaches(user: u32, dir: &Path) -> bool {
    dir.ancestors().all(|folder| {
        folder
            .metadata()
            .is_ok_and(|found| found.mode() & 0o001 != 0 || (found.uid() == user && found.mode() & 0o100 != 0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_folder_on_the_way_is_seen() {
        use std::os::unix::fs::PermissionsExt as _;
        let outer = std::env::temp_dir().join(format!("agentry-xtask-{}-reach", std::process::id()));
        let inner = outer.join("inner");
        std::fs::create_dir_all(&inner).unwrap();
        let stranger = 4_294_000_000;
        std::fs::set_permissions(&outer, std::fs::Permissions::from_mode(0o755)).unwrap();
        let open = reaches(stranger, &inner);
        std::fs::set_permissions(&outer, std::fs::Permissions::from_mode(0o700)).unwrap();
        let closed = reaches(stranger, &inner);
        let own = reaches(outer.metadata().unwrap().uid(), &inner);
        std::fs::remove_dir_all(&outer).unwrap();
        assert!(open && !closed && own, "{open} {closed} {own}");
    }
}
