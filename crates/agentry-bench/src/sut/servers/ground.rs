//! Where a server's data lies and as whom it runs. PostgreSQL refuses to run as root, and the others need not.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sut::SutError;

/// A folder of a server, and the user it runs as when that is not us.
pub struct Ground {
    pub(super) dir: PathBuf,
    account: Option<(u32, u32)>,
}

impl Ground {
    /// Makes the folder. `parent` is opened for passing through: it is the server's way to its data.
    ///
    /// # Errors
    /// When it cannot be made or handed over.
    pub fn new(parent: &Path, name: &str) -> Result<Self, SutError> {
        let open = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(parent, open).map_err(SutError::file(parent))?;
        let ground = Self { dir: parent.join(name), account: account(name)? };
        std::fs::create_dir(&ground.dir).map_err(SutError::file(&ground.dir))?;
        if let Some((user, group)) = ground.account {
            chown(&ground.dir, Some(user), Some(group)).map_err(SutError::file(&ground.dir))?;
        }
        Ok(ground)
    }

    /// A command in this folder, as its user, without settings of ours that the server would take for its own.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.dir).env("HOME", &self.dir).env("LC_ALL", "C");
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["PG", "RABBITMQ_", "ERL_"].iter().any(|start| text.starts_with(start)) {
                command.env_remove(&name);
            }
        }
        if let Some((user, group)) = self.account {
            command.uid(user).gid(group);
        }
        command
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.with_extension("log")
    }
}

/// When we are root: the server's own user where its package made one, else the user of those who own nothing.
fn account(name: &str) -> Result<Option<(u32, u32)>, SutError> {
    if !rustix::process::getuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").map_err(SutError::file("/etc/passwd"))?;
    let found = [name, "nobody"].into_iter().find_map(|name| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    let none = || SutError::Server("/etc/passwd has no user to run servers as: run as an ordinary user".to_owned());
    found.map(Some).ok_or_else(none)
}
