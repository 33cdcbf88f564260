//! Where an own server's data lies and as whom it runs. PostgreSQL refuses to run as root, and the others need not.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::service::Service;
use crate::place::{self, Place};

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    uid: u32,
    gid: u32,
}

/// A fresh folder for a server, and the user it runs as when that is not us.
pub struct Ground {
    pub dir: PathBuf,
    account: Option<Account>,
}

impl Ground {
    /// Makes the folder empty. Whoever ran in it before must have been ended.
    pub fn fresh(place: &Place, service: Service) -> Result<Self> {
        let account = if place::is_root() { Some(account_for(service)?) } else { None };
        let base = base_for(place, account.as_ref())?;
        let dir = base.join(service.word());
        remove(&dir)?;
        std::fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        if let Some(account) = &account {
            chown(&dir, Some(account.uid), Some(account.gid)).with_context(|| format!("chown {}", dir.display()))?;
        }
        Ok(Self { dir, account })
    }

    /// A command in this folder, as its user, without settings of ours that the server would take for its own.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.dir).env("HOME", &self.dir).env("LC_ALL", "C");
        for (name, _) in std::env::vars_os() {
            let foreign = name
                .to_str()
                .is_none_or(|name| name.starts_with("PG") || name.starts_with("RABBITMQ_") || name.starts_with("ERL_"));
            if foreign {
                command.env_remove(name);
            }
        }
        if let Some(account) = &self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }
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
fn base_for(place: &Place, account: Option<&Account>) -> Result<PathBuf> {
    let usual = super::folder(place).join("data");
    std::fs::create_dir_all(&usual).with_context(|| format!("cannot make {}", usual.display()))?;
    if account.is_none_or(|account| reaches(account, &usual)) {
        return Ok(usual);
    }
    let other = std::env::temp_dir().join(format!("agentry-services-{}", place.key()));
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

/// Whether a user may pass through every folder down to this one. Groups are left out: our commands have none.
fn reaches(account: &Account, dir: &Path) -> bool {
    dir.ancestors().all(|folder| {
        folder
            .metadata()
            .is_ok_and(|found| found.mode() & 0o001 != 0 || (found.uid() == account.uid && found.mode() & 0o100 != 0))
    })
}

/// The server's own user where its package made one, else the user of those who own nothing.
fn account_for(service: Service) -> Result<Account> {
    let users = std::fs::read_to_string("/etc/passwd").context("/etc/passwd")?;
    account_in(&users, service.word())
        .or_else(|| account_in(&users, "nobody"))
        .context("/etc/passwd has no user to run servers as (`nobody` is missing): run this as an ordinary user")
}

fn account_in(users: &str, name: &str) -> Option<Account> {
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some(Account { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_whole_names() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\npostgresql:x:9:9::/:/bin/sh\npostgres:x:101:104:P:/var:/bin/sh\nbad:x\n";
        assert_eq!(account_in(users, "postgres"), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(account_in(users, "redis"), None);
        assert_eq!(account_in(users, "bad"), None);
    }

    #[test]
    fn a_closed_folder_on_the_way_is_seen() {
        use std::os::unix::fs::PermissionsExt as _;
        let outer = std::env::temp_dir().join(format!("agentry-xtask-{}-reach", std::process::id()));
        let inner = outer.join("inner");
        std::fs::create_dir_all(&inner).unwrap();
        let stranger = Account { uid: 4_294_000_000, gid: 4_294_000_000 };
        std::fs::set_permissions(&outer, std::fs::Permissions::from_mode(0o755)).unwrap();
        let open = reaches(&stranger, &inner);
        std::fs::set_permissions(&outer, std::fs::Permissions::from_mode(0o700)).unwrap();
        let closed = reaches(&stranger, &inner);
        let owner = Account { uid: outer.metadata().unwrap().uid(), gid: 0 };
        let own = reaches(&owner, &inner);
        std::fs::remove_dir_all(&outer).unwrap();
        assert!(open && !closed && own, "{open} {closed} {own}");
    }
}
