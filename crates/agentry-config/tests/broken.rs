//! Snapshot of the messages for every kind of broken file.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fmt::Write as _;
use std::path::Path;

use agentry_config::validate_paths;

#[test]
fn every_mistake_is_told_with_its_place_and_its_remedy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let folder = root.join("broken");
    let files = std::fs::read_dir(&folder).unwrap().count();
    assert!(files >= 30, "only {files} broken files");
    let (problems, checked) = validate_paths(&[&folder]);
    assert_eq!(checked, files);
    let mut text = String::new();
    for problem in &problems {
        writeln!(text, "{problem}\n").unwrap();
    }
    let text = text.replace(&format!("{}/", root.display()), "");
    insta::assert_snapshot!("broken", text.trim_end());
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let told = problems.iter().any(|problem| problem.is_error() && problem.file.ends_with(&name));
        // Of two files with one name, the first keeps it.
        assert!(told || name == "same_name_one.yml", "nothing is said about {name}");
    }
}
