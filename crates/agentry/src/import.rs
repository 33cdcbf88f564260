//! `agentry import`: agent files written for older keys, rewritten for today's.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use agentry_config::{ImportResult, import_text};

use crate::cli;
use crate::failure::Failure;
use crate::out;

/// Bytes that are read of a file; agent files have at most 1 MiB.
const MAX_READ: u64 = 2 * 1024 * 1024;

/// Rewrites files. The new text goes to standard output, to `-o` or (`--write`) to the file itself; what was changed
/// and what is wrong go to standard error.
pub fn import(args: &cli::ImportArgs) -> Result<(), Failure> {
    if let Some(output) = &args.output
        && args.files.len() > 1
        && !output.is_dir()
    {
        let message = format!("{} files cannot go to one, and {} is no folder", args.files.len(), output.display());
        return Err(Failure::usage(message).help("make the folder, or import one file at a time"));
    }
    let mut bad = 0;
    for file in &args.files {
        let text = read(file)?;
        let imported = import_text(&file.display().to_string(), &text);
        report(file, &imported);
        match &imported.text {
            // A file that cannot be used is left as it is; where it goes elsewhere, people may go on from there.
            Some(new) if !(imported.is_bad() && args.write) => deliver(args, file, &text, new)?,
            _ => {}
        }
        bad += usize::from(imported.is_bad());
    }
    if bad > 0 {
        out::eprint(&format!("{bad} of {} cannot be used as they are\n", args.files.len()));
        return Err(Failure::Reported);
    }
    Ok(())
}

fn read(file: &Path) -> Result<String, Failure> {
    let cannot = |reason: String| Failure::new(format!("cannot read {}: {reason}", file.display()));
    let mut bytes = Vec::new();
    let read = fs::File::open(file).and_then(|opened| opened.take(MAX_READ).read_to_end(&mut bytes));
    read.map_err(|error| cannot(error.to_string()))?;
    String::from_utf8(bytes)
        .map_err(|error| cannot(format!("it is not UTF-8 at byte {}", error.utf8_error().valid_up_to())))
}

fn report(file: &Path, imported: &ImportResult) {
    let shown = file.display();
    for (place, said) in &imported.changes {
        out::eprint(&format!("{shown}:{}:{}: {said}\n", place.line, place.column));
    }
    for problem in &imported.problems {
        out::eprint(&format!("{problem}\n\n"));
    }
    if imported.changes.is_empty() && !imported.is_bad() {
        out::eprint(&format!("{shown}: nothing to change\n"));
    }
}

fn deliver(args: &cli::ImportArgs, file: &Path, old: &str, new: &str) -> Result<(), Failure> {
    if args.write {
        return if old == new { Ok(()) } else { write(file, new) };
    }
    match &args.output {
        None => out::print(new),
        Some(folder) if folder.is_dir() => write(&folder.join(file.file_name().unwrap_or_default()), new),
        Some(target) => write(target, new),
    }
}

/// Whole or not at all: watchers of the folder never see half a file.
fn write(target: &Path, text: &str) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| Failure::new(format!("cannot write {}: {error}", target.display()));
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(PathBuf::from("."), Into::into);
    let mut new = tempfile::NamedTempFile::new_in(folder).map_err(cannot)?;
    std::io::Write::write_all(&mut new, text.as_bytes()).map_err(cannot)?;
    if let Ok(old) = fs::metadata(target) {
        fs::set_permissions(new.path(), old.permissions()).map_err(cannot)?;
    }
    new.persist(target).map(drop).map_err(|error| cannot(error.error))
}
