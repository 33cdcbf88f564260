//! Installed programs and free ports.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::LabError;

/// Ports are taken from here: below the range that connections get theirs from, so that nobody takes the port of a
/// server while it is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Ports that are tried.
const TRIES: usize = 1_000;

/// Returns a port of loopback that nobody listens on now.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16, LabError> {
    for _ in 0..TRIES {
        let port = rand::random_range(PORTS);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(LabError::Server(format!("no free port from {} to {} on 127.0.0.1", PORTS.start, PORTS.end)))
}

/// Returns the address of a port on loopback.
#[must_use]
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Returns an executable in one of these folders, each of which may have one `*`, else on the path.
#[must_use]
pub fn find_executable(program: &str, folders: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = folders.iter().flat_map(|folder| versions(folder)).chain(std::env::split_paths(&path));
    all.map(|folder| folder.join(program)).find(|file| is_executable(file))
}

/// [`find_executable`], with an error that names the package.
pub(crate) fn executable(program: &str, folders: &[&str], package: &'static str) -> Result<PathBuf, LabError> {
    let missing = || LabError::Missing { program: program.to_owned(), folders: folders.join(", "), package };
    find_executable(program, folders).ok_or_else(missing)
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Returns the folders that a pattern with at most one `*` names, the highest version first.
fn versions(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![PathBuf::from(pattern)] };
    let (parent, start) = before.rsplit_once('/').unwrap_or(("", before));
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(start))
        .map(|entry| entry.path().join(after.trim_start_matches('/')))
        .collect();
    found.sort_by_key(|path| std::cmp::Reverse(numbers(&path.to_string_lossy())));
    found
}

/// Returns whether the caller is root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// Returns the numbers in a text, to compare versions by: `9.6` < `15`.
#[must_use]
pub fn numbers(text: &str) -> Vec<u32> {
    text.split(|letter: char| !letter.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_names_the_package() {
        let error = executable("no-such-program", &["/usr/lib/none/*/bin"], "some-package").unwrap_err().to_string();
        assert!(error.contains("no-such-program") && error.contains("apt-get install some-package"), "{error}");
        assert!(executable("sh", &[], "dash").is_ok());
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(numbers("/usr/lib/postgresql/9.6") < numbers("/usr/lib/postgresql/15"));
        assert_eq!(numbers("15.9 (Debian 15.9-0)"), [15, 9, 15, 9, 0]);
    }

    #[test]
    fn executables_are_files_that_may_be_run() {
        assert_eq!(find_executable("Cargo.toml", &[env!("CARGO_MANIFEST_DIR")]), None);
    }
}
