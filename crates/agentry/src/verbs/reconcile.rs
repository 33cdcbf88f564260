//! `usage reconcile FILE`: compares the usage ledger with the export of a provider.
//!
//! The export is JSON Lines or CSV with one row per call. Rows are matched by the provider's id of the call, or by our id,
//! which was sent as `x-request-id`. Both sides must have the same calls with the same tokens; differences are printed.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use agentry_api::{CallView, CallsQuery};
use serde_json::{Value, json};

use crate::cli::ReconcileArgs;
use crate::failure::Failure;
use crate::out;
use crate::render::{self, OutputFormat, TableColumn, at, shown, text};

/// The most rows of the ledger that are read: the page limit of the client.
const MAX_CALLS: usize = 200_000;
/// The largest export, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// The most printed differences; all are counted.
const MAX_SHOWN: usize = 100;

/// Names of the fields of an export.
const PROVIDER_ID: &[&str] = &["provider_id", "id", "call_id", "generation_id", "requestId"];
const REQUEST_ID: &[&str] = &["request_id", "x_request_id", "client_request_id"];
const INPUT: &[&str] = &["input_tokens", "prompt_tokens", "inputTokens", "prompt_eval_count"];
const OUTPUT: &[&str] = &["output_tokens", "completion_tokens", "outputTokens", "eval_count"];

const COLUMNS: &[TableColumn] = &[
    text("call", |row| at(row, "/call")),
    text("what", |row| at(row, "/what")),
    text("ledger", |row| at(row, "/ledger")),
    text("provider", |row| at(row, "/provider")),
];

/// A call in the export of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ExportedCall {
    provider_id: Option<String>,
    request_id: Option<String>,
    input: u64,
    output: u64,
}

impl ExportedCall {
    fn name(&self) -> String {
        self.provider_id.clone().or_else(|| self.request_id.clone()).unwrap_or_default()
    }
}

/// The result of the comparison.
#[derive(Debug, Default)]
struct Reconciliation {
    matched: u64,
    differences: u64,
    shown: Vec<Value>,
}

impl Reconciliation {
    fn differs(&mut self, call: &str, what: &str, ledger: Value, provider: Value) {
        self.differences += 1;
        if self.shown.len() < MAX_SHOWN {
            self.shown.push(json!({"call": call, "what": what, "ledger": ledger, "provider": provider}));
        }
    }
}

/// Compares both sides and prints the differences, which are a failure.
pub async fn reconcile(args: &ReconcileArgs) -> Result<(), Failure> {
    let exported = read(&args.file)?;
    let query = CallsQuery { from: args.from.clone(), to: args.to.clone(), ..CallsQuery::default() };
    let ledger = args.reading.server.client()?.calls(&query).all(MAX_CALLS).await?;
    if ledger.len() >= MAX_CALLS {
        return Err(Failure::new(format!("the ledger has {MAX_CALLS} calls or more in this time"))
            .help("choose a shorter time with --from and --to, and a file that covers it"));
    }
    let of_provider = |row: &&CallView| args.provider.as_deref().is_none_or(|name| shown(&row.provider) == name);
    let ledger: Vec<&CallView> = ledger.iter().filter(of_provider).collect();
    let found = compare(&ledger, &exported);
    let summary = json!({
        "matched": found.matched,
        "differences": found.differences,
        "ledger_calls": ledger.len(),
        "provider_calls": exported.len(),
        "shown": found.shown,
    });
    match args.reading.output {
        OutputFormat::Table => {
            if !found.shown.is_empty() {
                render::rows(&found.shown, COLUMNS, "")?;
            }
            out::line(&format!(
                "{} calls agree; {} of the ledger and {} of the provider were compared",
                found.matched,
                ledger.len(),
                exported.len()
            ))?;
        }
        format => render::document(format, &summary)?,
    }
    if found.differences == 0 {
        return Ok(());
    }
    Err(Failure::new(format!("the ledger and {} differ in {} calls", args.file.display(), found.differences))
        .help("--from, --to and --provider choose the rows of the ledger that the file covers"))
}

fn compare(ledger: &[&CallView], exported: &[ExportedCall]) -> Reconciliation {
    let mut by_id: HashMap<&str, usize> = HashMap::with_capacity(exported.len() * 2);
    for (index, row) in exported.iter().enumerate() {
        for id in [&row.provider_id, &row.request_id].into_iter().flatten() {
            by_id.insert(id, index);
        }
    }
    let mut seen = vec![false; exported.len()];
    let mut found = Reconciliation::default();
    for row in ledger {
        let call = &row.call.to_string();
        let of_provider = row.provider_call.as_deref().and_then(|id| by_id.get(id));
        let Some(&index) = of_provider.or_else(|| by_id.get(call.as_str())) else {
            found.differs(call, "only in the ledger", json!(row.status), Value::Null);
            continue;
        };
        if std::mem::replace(&mut seen[index], true) {
            found.differs(call, "twice in the ledger", Value::Null, json!(exported[index].name()));
            continue;
        }
        let other = &exported[index];
        let ours = [row.usage.input_tokens, row.usage.output_tokens];
        let theirs = [other.input, other.output];
        if ours == theirs {
            found.matched += 1;
        } else {
            found.differs(
                call,
                "tokens in, out",
                json!(format!("{}, {}", ours[0], ours[1])),
                json!(format!("{}, {}", theirs[0], theirs[1])),
            );
        }
    }
    for (row, _) in exported.iter().zip(&seen).filter(|(_, seen)| !**seen) {
        found.differs(
            &row.name(),
            "only at the provider",
            Value::Null,
            json!(format!("{}, {}", row.input, row.output)),
        );
    }
    found
}

fn read(path: &Path) -> Result<Vec<ExportedCall>, Failure> {
    let shown = path.display();
    let failed = |error: std::io::Error| Failure::new(format!("cannot read {shown}: {error}"));
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_FILE_BYTES {
        return Err(Failure::new(format!("{shown} has {size} bytes; at most {MAX_FILE_BYTES} are read"))
            .help("split it by day and give --from and --to"));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let rows = if text.trim_start().starts_with('{') { json_lines(&text) } else { csv(&text) };
    rows.map_err(|(line, problem)| {
        Failure::new(format!("{shown}:{line}: {problem}")).help(
            "expected JSON Lines or CSV with a row for each call: an `id` or `request_id`, `input_tokens` and \
             `output_tokens`",
        )
    })
}

type ExportRow = BTreeMap<String, Value>;

fn json_lines(text: &str) -> Result<Vec<ExportedCall>, (usize, String)> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let row: ExportRow =
                serde_json::from_str(line).map_err(|error| (number, format!("not a JSON object: {error}")))?;
            exported(&row).map_err(|problem| (number, problem))
        })
        .collect()
}

/// Comma-separated values without quotes within fields: ids and numbers need none.
fn csv(text: &str) -> Result<Vec<ExportedCall>, (usize, String)> {
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let cells =
        |line: &str| -> Vec<String> { line.split(',').map(|cell| cell.trim().trim_matches('"').to_owned()).collect() };
    let Some((_, head)) = lines.next() else { return Ok(Vec::new()) };
    let head = cells(head);
    lines
        .map(|(number, line)| {
            let cells = cells(line);
            if cells.len() != head.len() {
                return Err((number, format!("{} cells under {} headings", cells.len(), head.len())));
            }
            let row: ExportRow = head.iter().cloned().zip(cells.into_iter().map(Value::String)).collect();
            exported(&row).map_err(|problem| (number, problem))
        })
        .collect()
}

fn exported(row: &ExportRow) -> Result<ExportedCall, String> {
    let field = |names: &[&str]| names.iter().find_map(|name| row.get(*name));
    let id = |names: &[&str]| field(names).and_then(Value::as_str).map(str::to_owned).filter(|id| !id.is_empty());
    let tokens = |names: &[&str]| match field(names) {
        None | Some(Value::Null) => Err(format!("it has no `{}`", names[0])),
        Some(Value::String(text)) => text.parse().map_err(|_| format!("`{}` is `{text}`, not a number", names[0])),
        Some(value) => value.as_u64().ok_or_else(|| format!("`{}` is {value}, not a whole number", names[0])),
    };
    let row = ExportedCall {
        provider_id: id(PROVIDER_ID),
        request_id: id(REQUEST_ID),
        input: tokens(INPUT)?,
        output: tokens(OUTPUT)?,
    };
    if row.provider_id.is_none() && row.request_id.is_none() {
        return Err("it names no call: an `id` or `request_id` is missing".to_owned());
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(call: u8, provider_call: Option<&str>, input: u64, output: u64) -> CallView {
        let id = id(call);
        let row = json!({"call": id, "provider_call": provider_call, "status": "completed", "task": id, "agent": "a",
            "provider": "openai", "model": "m", "at": "2026-11-23T09:00:00Z", "duration_us": 1,
            "usage": {"input_tokens": input, "output_tokens": output}});
        serde_json::from_value(row).unwrap()
    }

    fn id(call: u8) -> String {
        format!("01890a5d-ac96-774b-bcce-b302099a80{call:02x}")
    }

    #[test]
    fn equal_sides_agree_by_either_id() {
        let second = json!({"request_id": id(2), "prompt_tokens": 3, "completion_tokens": 4});
        let first = json!({"id": "gen-1", "input_tokens": 10, "output_tokens": 2});
        let exported = json_lines(&format!("{first}\n\n{second}\n")).unwrap();
        let (one, two) = (ledger(1, Some("gen-1"), 10, 2), ledger(2, None, 3, 4));
        let found = compare(&[&one, &two], &exported);
        assert_eq!((found.matched, found.differences), (2, 0));
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let exported = csv("id,input_tokens,output_tokens\ngen-1,10,2\ngen-2,1,1\n").unwrap();
        let rows = [ledger(1, Some("gen-1"), 10, 3), ledger(2, Some("gen-1"), 10, 2), ledger(3, Some("gen-9"), 1, 1)];
        let found = compare(&rows.iter().collect::<Vec<_>>(), &exported);
        let what: Vec<&str> = found.shown.iter().map(|row| row["what"].as_str().unwrap()).collect();
        assert_eq!(what, ["tokens in, out", "twice in the ledger", "only in the ledger", "only at the provider"]);
        assert_eq!((found.matched, found.differences), (0, 4));
    }

    #[test]
    fn mistakes_in_a_file_are_named_with_their_line() {
        for (text, line, expected) in [
            ("{\"id\":\"a\",\"input_tokens\":1}", 1, "output_tokens"),
            ("{\"input_tokens\":1,\"output_tokens\":1}", 1, "names no call"),
            ("{\"id\":\"a\",\"input_tokens\":1,\"output_tokens\":1}\n{", 2, "not a JSON object"),
            ("{\"id\":\"a\",\"input_tokens\":-1,\"output_tokens\":1}", 1, "not a whole number"),
        ] {
            let (number, problem) = json_lines(text).unwrap_err();
            assert!(number == line && problem.contains(expected), "{number}: {problem}");
        }
        let (number, problem) = csv("id,input_tokens,output_tokens\na,1\n").unwrap_err();
        assert!(number == 2 && problem.contains("2 cells under 3 headings"), "{problem}");
    }
}
