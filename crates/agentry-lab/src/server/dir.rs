//! The folder of a server and the user it runs as. PostgreSQL refuses to run as root, and the others need not.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{LabError, ProcessGroup, Service, is_root};

/// A folder of a server, and the user it runs as when that is not the caller.
#[derive(Debug)]
pub struct ServerDir {
    /// The folder.
    pub path: PathBuf,
    account: Option<(u32, u32)>,
    group: ProcessGroup,
}

impl ServerDir {
    /// Makes the folder. Its parents must be open to the server's user.
    ///
    /// # Errors
    /// The folder is there already, or cannot be made or handed over.
    pub fn create(path: PathBuf, service: Service, group: ProcessGroup) -> Result<Self, LabError> {
        let account = account_for(service)?;
        std::fs::create_dir(&path).map_err(LabError::file(&path))?;
        if let Some((user, group)) = account {
            chown(&path, Some(user), Some(group)).map_err(LabError::file(&path))?;
        }
        Ok(Self { path, account, group })
    }

    /// Returns a command in this folder, as its user, without settings of the caller that the server would take for its
    /// own.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.path).env("HOME", &self.path).env("LC_ALL", "C");
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["PG", "RABBITMQ_", "ERL_"].iter().any(|start| text.starts_with(start)) {
                command.env_remove(&name);
            }
        }
        if let Some((user, group)) = self.account {
            command.uid(user).gid(group);
        }
        self.group.apply(&mut command);
        command
    }

    /// Returns the log of the server.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("server.log")
    }

    /// Writes a file that the server reads.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), LabError> {
        let file = self.path.join(name);
        std::fs::write(&file, text).map_err(LabError::file(file))
    }
}

/// Returns the user and group that a server runs as when the caller is root: the server's own user where its package
/// made one, else `nobody`.
///
/// # Errors
/// The machine has neither.
pub fn account_for(service: Service) -> Result<Option<(u32, u32)>, LabError> {
    if !is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").map_err(LabError::file("/etc/passwd"))?;
    let found = [service.word(), "nobody"].into_iter().find_map(|name| account_in(&users, name));
    let none = || LabError::Server("/etc/passwd has no user to run servers as: run as an ordinary user".to_owned());
    found.map(Some).ok_or_else(none)
}

fn account_in(users: &str, name: &str) -> Option<(u32, u32)> {
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_whole_names() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\npostgresql:x:9:9::/:/bin/sh\npostgres:x:101:104:P:/var:/bin/sh\nbad:x\n";
        assert_eq!(account_in(users, "postgres"), Some((101, 104)));
        assert_eq!(account_in(users, "redis"), None);
        assert_eq!(account_in(users, "bad"), None);
    }
}
