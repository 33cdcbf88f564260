//! `agentry validate` and `agentry schema`: agent files without running anything.

use std::path::PathBuf;

use crate::failure::Failure;
use crate::{out, settings};

/// Checks files and folders of files; what is wrong goes to standard error, a count to standard output.
pub fn validate(paths: &[PathBuf]) -> Result<(), Failure> {
    let tables = settings::tables(&settings::of_file(None)?)?;
    let (problems, files) = agentry_config::validate_paths_with(paths, &tables);
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    for problem in &problems {
        out::eprint(&format!("{problem}\n\n"));
    }
    if errors > 0 {
        out::eprint(&format!(
            "{files} {} checked: {}\n",
            plural(files, "file"),
            found(errors, problems.len() - errors)
        ));
        return Err(Failure::Reported);
    }
    if files == 0 {
        return Err(Failure::new("there are no agent files here").help("agent files end in .yml or .yaml"));
    }
    out::line(&format!("{files} {} checked: {}", plural(files, "file"), found(0, problems.len())))
}

fn found(errors: usize, warnings: usize) -> String {
    match (errors, warnings) {
        (0, 0) => "all good".to_owned(),
        (0, warnings) => format!("good, {warnings} {}", plural(warnings, "warning")),
        (errors, 0) => format!("{errors} {}", plural(errors, "error")),
        (errors, warnings) => {
            format!("{errors} {}, {warnings} {}", plural(errors, "error"), plural(warnings, "warning"))
        }
    }
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

/// Prints the JSON Schema of agent files.
pub fn schema() -> Result<(), Failure> {
    out::line(&serde_json::to_string_pretty(&agentry_config::agent_file_schema()).unwrap_or_default())
}
