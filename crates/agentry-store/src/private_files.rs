//! Files and folders that only their owner can read, whatever the umask is and whatever their modes were before.
//!
//! Prompts, answers and hashes of keys must not be readable by other users of the machine, nor by a backup that runs as
//! one of them. Files of other users stay unchanged, and a file system without modes does not prevent a start.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Mode of private folders.
#[cfg(unix)]
const FOLDER: u32 = 0o700;
/// Mode of private files.
#[cfg(unix)]
const FILE: u32 = 0o600;

/// Opens a file with these options. A new file is private from the start; an existing one is made private.
///
/// # Errors
/// The file cannot be opened.
pub fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, FILE);
    let file = options.open(path)?;
    #[cfg(unix)]
    unix::tighten(path, &file.metadata()?, FILE, |mode| file.set_permissions(mode));
    Ok(file)
}

/// Creates a folder and its parents as private where they do not exist. An existing folder stays unchanged.
///
/// # Errors
/// The folder cannot be created.
pub fn make_folder(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, FOLDER);
    builder.create(path)
}

/// Makes a folder private.
pub(crate) fn tighten_folder(path: &Path) {
    #[cfg(unix)]
    if let Ok(metadata) = path.metadata() {
        unix::tighten(path, &metadata, FOLDER, |mode| std::fs::set_permissions(path, mode));
    }
    #[cfg(not(unix))]
    let _ = path;
}

/// Makes a file private if it exists. Links are not followed: the target may be of another kind.
pub(crate) fn tighten_if_there(path: &Path) {
    #[cfg(unix)]
    if let Ok(metadata) = path.symlink_metadata()
        && metadata.is_file()
    {
        unix::tighten(path, &metadata, FILE, |mode| std::fs::set_permissions(path, mode));
    }
    #[cfg(not(unix))]
    let _ = path;
}

#[cfg(unix)]
mod unix {
    use std::fs::{Metadata, Permissions};
    use std::io;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::path::Path;

    /// Mode bit of shared folders in which everybody may create files, such as `/tmp`.
    const STICKY: u32 = 0o1000;
    /// Mode bits of owner, group and others.
    const ALL: u32 = 0o777;

    /// Removes mode bits beyond `most` from a file of this user.
    pub(super) fn tighten(path: &Path, found: &Metadata, most: u32, set: impl FnOnce(Permissions) -> io::Result<()>) {
        let mode = found.mode();
        if mode & ALL & !most == 0 || found.uid() != rustix::process::geteuid().as_raw() {
            return;
        }
        if found.is_dir() && mode & STICKY != 0 {
            tracing::warn!(folder = %path.display(), "the data folder is shared by all users of this machine: choose another with --data");
            return;
        }
        // The owner's own bits stay: a read-only file is not made writable.
        if let Err(error) = set(Permissions::from_mode(mode & (most | !ALL))) {
            tracing::warn!(path = %path.display(), %error, "other users of this machine may read this path: its mode cannot be changed");
        }
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    fn set(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_made_and_what_was_loose_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("a/b"), dir.path().join("old"));
        make_folder(&new).unwrap();
        assert_eq!((mode(&new), mode(&dir.path().join("a"))), (0o700, 0o700));
        std::fs::create_dir(&old).unwrap();
        set(&old, 0o775);
        make_folder(&old).unwrap();
        assert_eq!(mode(&old), 0o775, "who makes folders does not know whose they are");
        tighten_folder(&old);
        assert_eq!(mode(&old), 0o700);
        let file = old.join("f");
        open(File::options().create(true).append(true), &file).unwrap();
        assert_eq!(mode(&file), 0o600);
        for (loose, tight) in [(0o755, 0o600), (0o444, 0o400), (0o600, 0o600)] {
            set(&file, loose);
            tighten_if_there(&file);
            assert_eq!(mode(&file), tight);
        }
        set(&file, 0o666);
        open(File::options().write(true), &file).unwrap();
        assert_eq!(mode(&file), 0o600);
    }

    #[test]
    fn shared_folders_links_and_what_is_absent_stay() {
        let dir = tempfile::tempdir().unwrap();
        set(dir.path(), 0o1777);
        tighten_folder(dir.path());
        assert_eq!(mode(dir.path()), 0o1777, "everybody's temporary folder stays everybody's");
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        std::fs::write(&target, "").unwrap();
        set(&target, 0o644);
        std::os::unix::fs::symlink(&target, &link).unwrap();
        tighten_if_there(&link);
        assert_eq!(mode(&target), 0o644);
        tighten_if_there(&dir.path().join("absent"));
    }
}
