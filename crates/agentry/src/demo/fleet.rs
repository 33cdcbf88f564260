//! The example fleet, carried in the binary: the demo runs wherever the executable is.

use std::path::Path;

use crate::failure::Failure;

/// Agent files in a table of name and text.
macro_rules! agent_files {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../../agents/", $name)))),+]
    };
}

/// The files of `agents/`.
pub const FILES: &[(&str, &str)] = agent_files![
    "daily-report.yml",
    "data-analyst.yml",
    "fact-checker.yml",
    "health-check.yml",
    "research-team.yml",
    "summarizer.yml",
    "support.yml",
    "triage.yml",
    "writer.yml",
];

/// Writes the fleet into a folder, which is made.
pub fn write(folder: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(format!("cannot write the example fleet to {}: {error}", folder.display()))
            .help("set TMPDIR to a folder that can be written")
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    FILES.iter().try_for_each(|(name, text)| std::fs::write(folder.join(name), text).map_err(failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_carried() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../agents");
        let mut shipped: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".yml"))
            .collect();
        shipped.sort();
        let carried: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        assert_eq!(carried, shipped);
    }
}
