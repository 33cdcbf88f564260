//! The state file: started servers that `down` must stop.

use std::path::{Path, PathBuf};

use agentry_lab::{ProcessIdentity, Service};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// A server that we started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedServer {
    pub service: Service,
    pub url: String,
    /// In the order in which they are to be ended.
    pub processes: Vec<ProcessIdentity>,
    /// Its data; removed with it.
    pub dir: PathBuf,
}

/// Everything that we started.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    #[serde(skip)]
    file: PathBuf,
    pub servers: Vec<StartedServer>,
    /// True if containers of our project are running.
    #[serde(default)]
    pub compose: bool,
}

impl State {
    /// Reads the file; empty if it does not exist.
    pub fn load(file: &Path) -> Result<Self> {
        let empty = Self { file: file.to_owned(), ..Self::default() };
        let text = match std::fs::read(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(empty),
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        };
        let damaged = || format!("{} is damaged: end its servers by hand, then remove it", file.display());
        let read: Self = serde_json::from_slice(&text).with_context(damaged)?;
        Ok(Self { file: empty.file, ..read })
    }

    /// Remembers a server from the moment it has a process.
    pub fn remember(&mut self, server: StartedServer) -> Result<()> {
        self.servers.retain(|known| known.service != server.service);
        self.servers.push(server);
        self.save()
    }

    pub fn forget(&mut self, service: Service) -> Result<()> {
        self.servers.retain(|known| known.service != service);
        self.save()
    }

    /// Writes it whole or not at all; nothing to remember means no file.
    pub fn save(&self) -> Result<()> {
        let shown = || format!("cannot write {}", self.file.display());
        if self.servers.is_empty() && !self.compose {
            return match std::fs::remove_file(&self.file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).with_context(shown),
                _ => Ok(()),
            };
        }
        let text = serde_json::to_string_pretty(self)?;
        let draft = self.file.with_extension("draft");
        std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, &self.file)).with_context(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file name of this test alone, removed when it ends.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("agentry-xtask-{}-{name}.json", std::process::id())))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn own(service: Service, port: u16) -> StartedServer {
        let process = ProcessIdentity { id: 7, started: "1234".to_owned() };
        StartedServer { service, url: service.url(port), processes: vec![process], dir: PathBuf::from("/x/y") }
    }

    #[test]
    fn what_was_remembered_is_read_again_and_forgotten_with_its_file() {
        let scratch = Scratch::new("state");
        let mut state = State::load(&scratch.0).unwrap();
        assert!(state.servers.is_empty());
        state.remember(own(Service::Redis, 1)).unwrap();
        state.remember(own(Service::Postgres, 2)).unwrap();
        state.remember(own(Service::Redis, 3)).unwrap();
        let mut again = State::load(&scratch.0).unwrap();
        assert_eq!(again, state);
        assert_eq!(again.servers, [own(Service::Postgres, 2), own(Service::Redis, 3)]);
        again.forget(Service::Redis).unwrap();
        again.forget(Service::Postgres).unwrap();
        assert!(!scratch.0.exists());
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_an_empty_state() {
        let scratch = Scratch::new("damaged");
        for text in ["{", "{}", r#"{"servers": [{"service": "mysql"}]}"#] {
            std::fs::write(&scratch.0, text).unwrap();
            assert!(State::load(&scratch.0).unwrap_err().to_string().contains("is damaged"), "{text}");
        }
    }
}
