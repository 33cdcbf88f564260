//! The state of the cluster in `DIR/cluster.json`, which later commands and tests read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::pool::Pool;
use super::replica::Replica;

/// A deployment on this machine.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    #[serde(skip)]
    dir: PathBuf,
    pub binary: PathBuf,
    /// Working directory of the processes: the folder with `agents/`.
    pub root: PathBuf,
    /// For every `agentry serve`.
    pub flags: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub replicas: Vec<Replica>,
}

impl State {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), ..Self::default() }
    }

    /// Reads the state of a folder; `None` if nothing was started in it.
    pub fn load(dir: &Path) -> Result<Option<Self>> {
        let file = Self::new(dir).file();
        let text = match std::fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        };
        let damaged = || format!("{} is damaged: end its processes by hand, then remove it", file.display());
        let read: Self = serde_json::from_slice(&text).with_context(damaged)?;
        Ok(Some(Self { dir: dir.to_owned(), ..read }))
    }

    /// Writes it whole or not at all, for our eyes only: URLs hold passwords.
    pub fn save(&self) -> Result<()> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let (file, draft) = (self.file(), self.file().with_extension("draft"));
        let write = || -> std::io::Result<()> {
            let out = std::fs::File::options().create(true).write(true).truncate(true).mode(0o600).open(&draft)?;
            serde_json::to_writer_pretty(&out, self)?;
            std::fs::rename(&draft, &file)
        };
        write().with_context(|| format!("cannot write {}", file.display()))
    }

    /// Nothing runs any more. Logs stay.
    pub fn remove(&self) -> Result<()> {
        std::fs::remove_file(self.file()).with_context(|| format!("cannot remove {}", self.file().display()))
    }

    pub fn file(&self) -> PathBuf {
        self.dir.join("cluster.json")
    }

    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    pub fn setting(&self, key: &str) -> Option<&str> {
        self.environment.get(key).map(String::as_str)
    }

    pub fn count(&self, pool: &Pool) -> u32 {
        u32::try_from(self.replicas.iter().filter(|replica| replica.pool == pool).count()).unwrap_or(u32::MAX)
    }

    /// Forgets processes that do not run any more.
    pub fn drop_dead(&mut self) -> Vec<Replica> {
        let (alive, dead) = std::mem::take(&mut self.replicas).into_iter().partition(|replica| replica.process.runs());
        self.replicas = alive;
        dead
    }

    /// Those of a pool beyond `count`: the highest indexes.
    pub fn surplus(&self, pool: &Pool, count: u32) -> Vec<Replica> {
        let mut of_pool: Vec<Replica> = self.replicas.iter().filter(|replica| replica.pool == pool).cloned().collect();
        of_pool.sort_by_key(|replica| replica.index);
        of_pool.split_off(of_pool.len().min(usize::try_from(count).unwrap_or(usize::MAX)))
    }

    /// The lowest indexes that nobody has, as many as are missing.
    pub fn free_indexes(&self, pool: &Pool, count: u32) -> Vec<u32> {
        let taken: Vec<u32> =
            self.replicas.iter().filter(|replica| replica.pool == pool).map(|replica| replica.index).collect();
        let missing = usize::try_from(count).unwrap_or(usize::MAX).saturating_sub(taken.len());
        (1..).filter(|index| !taken.contains(index)).take(missing).collect()
    }
}

/// A name for a deployment's schema and queues: the same for the same folder, and for no other. FNV-1a, because the
/// standard library's hashes may change between versions.
pub fn name_of(dir: &Path) -> String {
    let hash = dir
        .to_string_lossy()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("cluster_{hash:016x}")
}

#[cfg(test)]
mod tests {
    use agentry_lab::ProcessIdentity;

    use super::super::pool;
    use super::*;

    fn replica(word: &str, index: u32) -> Replica {
        let process = ProcessIdentity { id: 4_000_000_000 + index, started: "never".to_owned() };
        Replica { pool: pool::find(word).unwrap(), index, port: 1_000, url: String::new(), process }
    }

    fn state(replicas: Vec<Replica>) -> State {
        State { replicas, ..State::new(Path::new("/nowhere")) }
    }

    #[test]
    fn what_was_saved_is_read_again() {
        let dir = std::env::temp_dir().join(format!("agentry-xtask-{}-cluster", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut saved = state(vec![replica("api", 1), replica("autonomous", 3)]);
        saved.dir.clone_from(&dir);
        saved.flags = vec!["--sim".to_owned()];
        saved.environment = BTreeMap::from([("AGENTRY_POSTGRES_SCHEMA".to_owned(), "x".to_owned())]);
        saved.save().unwrap();
        let read = State::load(&dir).unwrap();
        std::fs::write(saved.file(), "{}").unwrap();
        let damaged = State::load(&dir);
        saved.remove().unwrap();
        let none = State::load(&dir);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(read, Some(saved));
        assert!(damaged.unwrap_err().to_string().contains("is damaged"));
        assert_eq!(none.unwrap(), None);
    }

    #[test]
    fn the_highest_go_first_and_gaps_are_filled() {
        let pool = pool::find("autonomous").unwrap();
        let state = state(vec![replica("autonomous", 4), replica("api", 9), replica("autonomous", 1)]);
        assert_eq!(state.free_indexes(pool, 5), [2, 3, 5]);
        assert_eq!(state.free_indexes(pool, 1), [] as [u32; 0]);
        let surplus: Vec<u32> = state.surplus(pool, 1).iter().map(|replica| replica.index).collect();
        assert_eq!(surplus, [4]);
        assert_eq!(state.surplus(pool, 0).len(), 2);
        assert!(state.surplus(pool, 7).is_empty());
        assert_eq!(state.count(pool), 2);
    }

    #[test]
    fn the_dead_are_forgotten() {
        let mut state = state(vec![replica("api", 1)]);
        assert_eq!(state.drop_dead().len(), 1);
        assert!(state.replicas.is_empty());
    }

    #[test]
    fn names_fit_a_schema_and_differ_by_folder() {
        assert_eq!(name_of(Path::new("/a")), name_of(Path::new("/a")));
        assert_ne!(name_of(Path::new("/a")), name_of(Path::new("/b")));
        assert!(name_of(Path::new("/a")).len() < 63, "PostgreSQL cuts longer names");
    }
}
