//! `keys init`: the keys that a deployment starts with, as files that only their readers can read.
//!
//! A deployment of containers has no terminal that could show a first key once, and a key in a log is no secret. So the
//! first container makes keys before the others start, and says where they are. It runs at every start and makes what is
//! missing: a second run finds the keys of the first.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use agentry_core::access::{ApiKey, Scope};
use agentry_core::time::Timestamp;
use agentry_store::{StateStore, private_files};
use secrecy::ExposeSecret as _;

use crate::failure::Failure;

/// A key of this program's own, as a file.
struct FirstKey {
    /// The name of its file.
    file: &'static str,
    /// What it is called in the store.
    name: &'static str,
    scope: Scope,
    /// Whether the group of the file may read it.
    for_group: bool,
}

/// For whoever runs the deployment. Without a file of it another is made only when nobody has a key like it.
const ADMIN: FirstKey = FirstKey { file: "admin-key", name: "first", scope: Scope::Admin, for_group: false };
/// For what reads `/metrics`, which runs as another user.
const SCRAPE: FirstKey = FirstKey { file: "scrape-key", name: "scrape", scope: Scope::Read, for_group: true };

/// The mode of a file that its group may read.
#[cfg(unix)]
const GROUP_READS: u32 = 0o640;

/// Makes the keys that are missing, and says where each is.
///
/// # Errors
/// When the store or the folder cannot be used.
pub async fn ensure(store: &dyn StateStore, dir: &Path, now: Timestamp) -> Result<Vec<String>, Failure> {
    let keys = store.keys().await.map_err(|error| Failure::new(format!("API keys cannot be looked at: {error}")))?;
    let good: Vec<ApiKey> = keys.into_iter().filter(|key| key.is_good(now)).collect();
    let mut said = Vec::new();
    for wanted in [ADMIN, SCRAPE] {
        let path = dir.join(wanted.file);
        let (scope, shown) = (wanted.scope, path.display());
        let has_one = good.iter().any(|key| key.scope == scope);
        said.push(if in_file(&path, &good) {
            format!("the key with the scope {scope} is in {shown}")
        } else if wanted.scope == Scope::Admin && has_one {
            format!("there is a key with the scope {scope}, so none was made; a good one is not in {shown}")
        } else {
            make(store, &path, &wanted, now).await?;
            format!("made a key with the scope {scope}: it is in {shown}")
        });
    }
    Ok(said)
}

/// Whether a file holds a good key.
fn in_file(path: &Path, good: &[ApiKey]) -> bool {
    let Ok(text) = std::fs::read_to_string(path) else { return false };
    let hash = agentry_server::key_hash(text.trim());
    good.iter().any(|key| key.hash == hash)
}

/// The file first: a key that only the store has would be of no use to anybody.
async fn make(store: &dyn StateStore, path: &Path, wanted: &FirstKey, now: Timestamp) -> Result<(), Failure> {
    let (key, text) = agentry_server::new_key(wanted.name, wanted.scope, now, None).map_err(Failure::new)?;
    let write = || {
        path.parent().map_or(Ok(()), private_files::make_folder)?;
        let mut file = private_files::open(File::options().write(true).create(true).truncate(true), path)?;
        #[cfg(unix)]
        if wanted.for_group {
            file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(GROUP_READS))?;
        }
        writeln!(file, "{}", text.expose_secret())?;
        file.sync_all()
    };
    write().map_err(|error: std::io::Error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
    store.add_key(&key).await.map_err(|error| Failure::new(format!("the key cannot be kept: {error}")))
}
