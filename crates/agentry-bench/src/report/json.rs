//! `report.json`, and its JSON Schema.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::{Report, SCHEMA};

/// Bytes of a report at most: a full run with all histograms is about 20 MB.
const MAX_BYTES: u64 = 256 << 20;

/// A report that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is not there, or may not be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// It is too large to be a report.
    #[error("{path} has {bytes} bytes; a report has at most {MAX_BYTES}", path = path.display())]
    TooLarge { path: PathBuf, bytes: u64 },
    /// It is damaged, cut off, or something else.
    #[error("{path}:{line}:{column}: not a report of `agentry bench`: {message}", path = path.display())]
    Corrupt { path: PathBuf, line: usize, column: usize, message: String },
    /// It has another form.
    #[error("{path} has schema {found}; this version reads {SCHEMA}", path = path.display())]
    OtherSchema { path: PathBuf, found: String },
}

impl LoadError {
    pub fn help(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "give report.json, or the folder that `bench run --out` wrote",
            Self::TooLarge { .. } | Self::Corrupt { .. } => {
                "the file may be cut off or edited: run `agentry bench run` again, or take another baseline"
            }
            Self::OtherSchema { .. } => "read it with the version of agentry that wrote it",
        }
    }
}

/// As it is written.
pub fn to_json(report: &Report) -> String {
    // Writing plain data into memory has nothing that can fail but a float that is no number, which becomes null.
    serde_json::to_string_pretty(report).unwrap_or_default() + "\n"
}

/// Reads `report.json`, or that file within a folder. Strict.
pub fn read(path: &Path) -> Result<Report, LoadError> {
    let path = if path.is_dir() { path.join(super::JSON) } else { path.to_owned() };
    let unreadable = |source| LoadError::Unreadable { path: path.clone(), source };
    let bytes = fs::metadata(&path).map_err(unreadable)?.len();
    if bytes > MAX_BYTES {
        return Err(LoadError::TooLarge { path, bytes });
    }
    let text = fs::read_to_string(&path).map_err(unreadable)?;
    let corrupt = |error: &serde_json::Error| LoadError::Corrupt {
        path: path.clone(),
        line: error.line(),
        column: error.column(),
        message: error.to_string(),
    };
    // The version first: a later form must be named as such, and not as an unknown key.
    let loose: serde_json::Value = serde_json::from_str(&text).map_err(|error| corrupt(&error))?;
    let found = loose["schema"].as_str().unwrap_or("none");
    let major = |version: &str| version.split('.').next().map(str::to_owned);
    if loose["schema"].is_string() && major(found) != major(SCHEMA) {
        return Err(LoadError::OtherSchema { path, found: found.to_owned() });
    }
    serde_json::from_str(&text).map_err(|error| corrupt(&error))
}

/// The JSON Schema of `report.json`, as committed under `schema/`.
#[cfg(test)]
fn schema() -> String {
    let mut schema =
        schemars::generate::SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Report>();
    schema.insert("$id".to_owned(), "https://agentry.dev/schema/bench-report.schema.json".into());
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{assert_file, realistic};

    #[test]
    fn the_committed_schema_is_up_to_date_and_a_report_satisfies_it() {
        assert_file("schema/bench-report.schema.json", &schema());
        let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let mut report: serde_json::Value = serde_json::from_str(&to_json(&realistic())).unwrap();
        assert!(validator.is_valid(&report), "{:?}", validator.iter_errors(&report).next().map(|e| e.to_string()));
        report["tests"][0]["verdit"] = "pass".into();
        assert!(!validator.is_valid(&report), "an unknown key must be refused");
    }

    #[test]
    fn what_is_no_report_is_named_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("report.json");
        let whole = to_json(&realistic());
        let error = |text: &str| {
            fs::write(&file, text).unwrap();
            read(&file).unwrap_err().to_string()
        };
        assert!(error(&whole[..whole.len() / 2]).contains("report.json:"), "cut off");
        assert!(error("{}").contains("missing field `schema`"));
        assert!(error("not json").contains(":1:"));
        assert!(error(&whole.replacen("\"schema\": \"1.", "\"schema\": \"2.", 1)).contains("this version reads"));
        assert!(error(&whole.replacen("\"seed\":", "\"sead\":", 1)).contains("unknown field `sead`"));
        assert!(read(&dir.path().join("none.json")).unwrap_err().to_string().contains("cannot read"));
    }
}
