//! `bench report DIR`: every other form again from report.json, without running anything.

use std::path::PathBuf;

use clap::Args;

use super::{BenchError, Outcome};
use crate::report::{HTML, read, render_all};
use crate::verdict::banner;

/// `bench report`.
#[derive(Debug, Args)]
pub struct Report {
    /// The folder that `bench run --out` wrote, or its report.json
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Write into another folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Renders a report again.
///
/// # Errors
/// When report.json cannot be read, or a file cannot be written.
pub fn report(args: &Report) -> Result<Outcome, BenchError> {
    let report = read(&args.dir)?;
    let home =
        if args.dir.is_dir() { args.dir.clone() } else { args.dir.parent().map_or_else(PathBuf::new, PathBuf::from) };
    let out = args.out.clone().unwrap_or(home);
    let files = render_all(&report, &out)?;
    let top = banner(&report);
    let page = out.join(HTML);
    Ok(Outcome::ok(format!(
        "{} {}\n{}\n{} files, begin with {}\n",
        top.verdict.shape(),
        top.headline,
        top.why,
        files.len(),
        page.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::write_all;
    use crate::specimen::realistic;

    #[test]
    fn a_report_is_rendered_again_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        write_all(&realistic(), dir.path()).unwrap();
        let out = dir.path().join("again");
        let done = report(&Report { dir: dir.path().join("report.json"), out: Some(out.clone()) }).unwrap();
        assert!(done.text.contains("report.html") && out.join("junit.xml").is_file());
        let missing = report(&Report { dir: dir.path().join("none"), out: None }).unwrap_err();
        assert_eq!(missing.exit, 1);
        assert!(missing.help.is_some());
    }
}
