//! A Python with the official libraries, made once for each list of them in the user's cache folder.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The libraries, pinned.
const REQUIREMENTS: &str = include_str!("requirements.txt");
/// What is missing when there is none.
const HINT: &str =
    "this test needs Python 3 with venv (Debian: apt-get install python3-venv) and, the first time, PyPI";

/// Standard output of a script beside this file, which must succeed.
pub fn script(file: &str, args: &[&str]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(file);
    // Nothing of the caller's proxies, keys and profiles takes part, and nothing is written beside the scripts.
    let mut command = Command::new(python());
    command.env_clear().env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1").arg(path).args(args);
    run(&mut command).unwrap_or_else(|problem| panic!("{problem}"))
}

/// The interpreter of an environment that has the libraries.
fn python() -> PathBuf {
    let folder = cache().join(format!("agentry/sdk-{:016x}", fingerprint()));
    std::fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
    let (python, done) = (folder.join("venv/bin/python"), folder.join("done"));
    // Tests run in processes of their own: one makes the environment, the others wait for it.
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    if !done.exists() {
        make(&folder, &python).unwrap_or_else(|problem| panic!("{problem}\n{HINT}"));
        std::fs::write(done, REQUIREMENTS).unwrap();
    }
    python
}

fn make(folder: &Path, python: &Path) -> Result<(), String> {
    let requirements = folder.join("requirements.txt");
    std::fs::write(&requirements, REQUIREMENTS).map_err(|error| error.to_string())?;
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder.join("venv")))?;
    let mut install = Command::new(python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(requirements);
    run(&mut install).map(drop)
}

/// Of the libraries and of the interpreter that they are for.
fn fingerprint() -> u64 {
    let version = run(Command::new("python3").arg("--version")).unwrap_or_else(|problem| panic!("{problem}\n{HINT}"));
    let mut hasher = DefaultHasher::new();
    (REQUIREMENTS, version).hash(&mut hasher);
    hasher.finish()
}

fn cache() -> PathBuf {
    let given = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    given.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).unwrap_or_else(std::env::temp_dir)
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{command:?}:\n{}{}", text(&output.stdout), text(&output.stderr)))
    }
}
