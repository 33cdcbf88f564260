//! YAML files as JSON values, read by the parser that the validators brought.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::VALIDATE;
use crate::process::output_within;

/// Prints every document of the files that are named, as one JSON list.
const PROGRAM: &str = "\
import json, sys, yaml
print(json.dumps([d for f in sys.argv[1:] for d in yaml.safe_load_all(open(f, encoding='utf-8')) if d is not None]))
";

pub fn read(tools: &Path, files: &[PathBuf]) -> Result<Vec<Value>> {
    let json = output_within(Command::new(tools.join("python")).args(["-c", PROGRAM]).args(files), VALIDATE)?;
    serde_json::from_str(&json).context("the YAML reader printed no JSON")
}
