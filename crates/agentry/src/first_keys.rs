//! `keys init`: the first keys of a deployment, as private files.
//!
//! A deployment of containers has no terminal to show the first key, and a key must not be logged. So an init container
//! creates the keys as files before the others start. It runs on every start and creates only what is missing.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use agentry_core::access::{ApiKey, Scope};
use agentry_core::time::Timestamp;
use agentry_store::{StateStore, private_files};
use secrecy::ExposeSecret as _;

use crate::failure::Failure;

/// A key to create as a file.
struct FirstKey {
    /// The file name.
    file: &'static str,
    /// The name in the store.
    name: &'static str,
    scope: Scope,
    /// True if the file is readable by its group.
    for_group: bool,
}

/// The key of the operator. If its file is missing, it is created only if no valid key has its scope.
const ADMIN: FirstKey = FirstKey { file: "admin-key", name: "first", scope: Scope::Admin, for_group: false };
/// The key of the scraper of `/metrics`, which runs as another user.
const SCRAPE: FirstKey = FirstKey { file: "scrape-key", name: "scrape", scope: Scope::Read, for_group: true };

/// The mode of a file that is readable by its group.
#[cfg(unix)]
const GROUP_READS: u32 = 0o640;

/// Creates the missing keys and returns a line about each.
pub async fn ensure(store: &dyn StateStore, dir: &Path, now: Timestamp) -> Result<Vec<String>, Failure> {
    let keys = store.keys().await.map_err(|error| Failure::new(format!("cannot read the API keys: {error}")))?;
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

/// Returns whether a file holds a valid key.
fn in_file(path: &Path, good: &[ApiKey]) -> bool {
    let Ok(text) = std::fs::read_to_string(path) else { return false };
    let hash = agentry_server::key_hash(text.trim());
    good.iter().any(|key| key.hash == hash)
}

/// Creates a key. The file is written first: a key that only the store has is useless.
async fn make(store: &dyn StateStore, path: &Path, wanted: &FirstKey, now: Timestamp) -> Result<(), Failure> {
    let (key, text) = agentry_server::new_key(wanted.name, wanted.scope, now, None)?;
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
    store.add_key(&key).await.map_err(|error| Failure::new(format!("the key cannot be stored: {error}")))
}
