//! Where a server's data lies and as whom it runs. PostgreSQL refuses to run as root, and the others need not.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder of a server, and the user it runs as when that is not us.
pub struct Ground {
    pub dir: PathBuf,
    account: Option<(u32, u32)>,
}

impl Ground {
    /// Makes the folder. `parent` is opened for passing through: it is the server's way to its data.
    pub fn new(parent: &Path, name: &str) -> Self {
        std::fs::set_permissions(parent, std::fs::Permissions::from_mode(0o711)).unwrap();
        let ground = Self { dir: parent.join(name), account: account(name) };
        ground.make(&ground.dir);
        ground
    }

    /// Makes a folder that belongs to the server's user.
    fn make(&self, dir: &Path) {
        std::fs::create_dir(dir).unwrap();
        if let Some((user, group)) = self.account {
            chown(dir, Some(user), Some(group)).unwrap();
        }
    }

    /// A command in this folder, as its user, without settings of ours that the server would take for its own.
    pub fn command(&self, program: &Path) -> Command {
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

    pub fn log(&self) -> PathBuf {
        self.dir.with_extension("log")
    }
}

/// When we are root: the server's own user where its package made one, else the user of those who own nothing.
fn account(name: &str) -> Option<(u32, u32)> {
    let id = Command::new("id").arg("-u").output().unwrap();
    if id.stdout.trim_ascii() != b"0" {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let found = [name, "nobody"].into_iter().find_map(|name| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    Some(found.expect("/etc/passwd has no user to run servers as: run these tests as an ordinary user"))
}
