//! From a report to files: JSON, one HTML page that needs nothing else, Markdown for a pull request, JUnit for a build
//! server, a CSV of every plot and an `.hgrm` of every histogram.

mod benchmarks;
mod csv;
mod html;
mod json;
mod junit;
mod markdown;
mod svg;

pub use benchmarks::benchmarks;
pub use csv::csv;
pub use html::{change_word, html};
pub use json::{LoadError, read, to_json};
pub use junit::junit;
pub use markdown::markdown;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::{Report, Test};
use crate::stats::{decode, hgrm};

/// The names of the files.
pub const JSON: &str = "report.json";
/// The page.
pub const HTML: &str = "report.html";
/// The comment for a pull request.
pub const MARKDOWN: &str = "report.md";
/// For a build server.
pub const JUNIT: &str = "junit.xml";
/// The folder of CSV files.
pub const SERIES: &str = "series";
/// The folder of histograms.
pub const HDR: &str = "hdr";

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {source}", path = path.display())]
pub struct WriteError {
    pub path: PathBuf,
    pub source: io::Error,
}

/// Writes every form of the report into a folder and returns the files, `report.json` first.
pub fn write_all(report: &Report, dir: &Path) -> Result<Vec<PathBuf>, WriteError> {
    let mut written = vec![put(dir, JSON, &to_json(report))?];
    written.extend(render_all(report, dir)?);
    Ok(written)
}

/// Writes every form but `report.json`, which is what the others are made from.
pub fn render_all(report: &Report, dir: &Path) -> Result<Vec<PathBuf>, WriteError> {
    let mut written =
        vec![put(dir, HTML, &html(report))?, put(dir, MARKDOWN, &markdown(report))?, put(dir, JUNIT, &junit(report))?];
    for (test, key) in keyed(report) {
        for plot in &test.plots {
            written.push(put(dir, &csv_path(&key, &plot.id), &csv(plot))?);
        }
        for metric in test.metrics.iter().filter(|metric| metric.hdr_b64.is_some()) {
            let hist = metric.hdr_b64.as_deref().and_then(|text| decode(text).ok());
            if let Some(hist) = hist {
                written.push(put(dir, &format!("{HDR}/{}-{}.hgrm", key, file_name(&metric.name)), &hgrm(&hist))?);
            }
        }
    }
    for plot in &report.harness.plots {
        written.push(put(dir, &csv_path("harness", &plot.id), &csv(plot))?);
    }
    Ok(written)
}

fn put(dir: &Path, name: &str, text: &str) -> Result<PathBuf, WriteError> {
    let path = dir.join(name);
    let write = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        // Under another name first: a full disk must not leave half a report in place of a whole one.
        let half = path.with_extension("part");
        fs::write(&half, text)?;
        fs::rename(&half, &path)
    };
    write().map_err(|source| WriteError { path: path.clone(), source })?;
    Ok(path)
}

/// The tests, each with a key that is unique within the report and safe in a file name.
fn keyed(report: &Report) -> Vec<(&Test, String)> {
    let mut keyed: Vec<(&Test, String)> = Vec::with_capacity(report.tests.len());
    for test in &report.tests {
        let base = file_name(&test.id);
        let same = keyed.iter().filter(|(other, _)| other.id == test.id).count();
        let key = if same == 0 { base } else { format!("{base}-{}", same + 1) };
        keyed.push((test, key));
    }
    keyed
}

fn csv_path(key: &str, plot: &str) -> String {
    format!("{SERIES}/{key}-{}.csv", file_name(plot))
}

/// Letters, digits, dots and dashes; a report of a stranger must not write elsewhere.
fn file_name(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '-' };
    text.chars().take(80).map(safe).collect::<String>().trim_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::realistic;

    #[test]
    fn everything_is_written_and_can_be_rendered_again() {
        let dir = tempfile::tempdir().unwrap();
        let report = realistic();
        // People look before they read: `SAMPLE_REPORT=DIR` keeps a copy to look at.
        if let Some(kept) = std::env::var_os("SAMPLE_REPORT") {
            write_all(&report, Path::new(&kept)).unwrap();
        }
        let files = write_all(&report, dir.path()).unwrap();
        let names: Vec<String> =
            files.iter().map(|f| f.strip_prefix(dir.path()).unwrap().display().to_string()).collect();
        for name in
            [JSON, HTML, MARKDOWN, JUNIT, "series/3.1-throughput-depth.csv", "hdr/3.1-throughput-bus.delivery.hgrm"]
        {
            assert!(names.iter().any(|found| found == name), "{name} is not among {names:?}");
        }
        let again = read(&dir.path().join(JSON)).unwrap();
        assert_eq!(again, report);
        assert_eq!(html(&again), fs::read_to_string(dir.path().join(HTML)).unwrap());
    }

    #[test]
    fn a_name_never_leaves_the_folder() {
        assert_eq!(file_name("../../etc/passwd"), "-..-etc-passwd");
        assert_eq!(file_name("1.1/startup"), "1.1-startup");
    }
}
