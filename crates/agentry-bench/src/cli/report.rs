//! `bench report DIR`: every other form again from report.json, without running anything; `BENCHMARKS.md` from several.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{BenchError, Outcome};
use crate::report::{HTML, benchmarks, read, render_all};
use crate::verdict::banner;

/// `bench report`.
#[derive(Debug, Args)]
pub struct Report {
    /// The folder that `bench run --out` wrote, or its report.json; several for benchmarks
    #[arg(value_name = "DIR", required = true)]
    pub dirs: Vec<PathBuf>,
    /// What to render
    #[arg(long, value_enum, default_value_t = Format::Report)]
    pub format: Format,
    /// Write into another folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// What is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// HTML, Markdown, JUnit and CSV of one run, beside its report.json
    Report,
    /// The page of figures, from one or more runs of each engine, on standard output
    Benchmarks,
}

/// Renders reports again.
pub fn report(args: &Report) -> Result<Outcome, BenchError> {
    let reports = args.dirs.iter().map(|dir| read(dir)).collect::<Result<Vec<_>, _>>()?;
    if args.format == Format::Benchmarks {
        return Ok(Outcome::ok(benchmarks(&reports)));
    }
    let (dir, report) = match (args.dirs.as_slice(), reports.as_slice()) {
        ([dir], [report]) => (dir, report),
        _ => {
            return Err(BenchError::usage("the report of one run is rendered at a time")
                .help("give one folder, or --format benchmarks"));
        }
    };
    let home = if dir.is_dir() { dir.clone() } else { dir.parent().map_or_else(PathBuf::new, PathBuf::from) };
    let out = args.out.clone().unwrap_or(home);
    let files = render_all(report, &out)?;
    let top = banner(report);
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
    use crate::fixtures::realistic;
    use crate::report::write_all;

    fn args(dirs: &[PathBuf], format: Format, out: Option<PathBuf>) -> Report {
        Report { dirs: dirs.to_vec(), format, out }
    }

    #[test]
    fn a_report_is_rendered_again_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        write_all(&realistic(), dir.path()).unwrap();
        let (file, out) = (dir.path().join("report.json"), dir.path().join("again"));
        let done = report(&args(std::slice::from_ref(&file), Format::Report, Some(out.clone()))).unwrap();
        assert!(done.text.contains("report.html") && out.join("junit.xml").is_file());
        let missing = report(&args(&[dir.path().join("none")], Format::Report, None)).unwrap_err();
        assert_eq!(missing.exit, 1);
        assert!(missing.help.is_some());
        let two = [file.clone(), file];
        assert_eq!(report(&args(&two, Format::Report, None)).unwrap_err().exit, 2);
        assert!(report(&args(&two, Format::Benchmarks, None)).unwrap().text.starts_with("# Benchmarks"));
    }
}
