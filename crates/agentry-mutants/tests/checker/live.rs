//! `bench run --live`: a simulator stands in for the providers, at the address in the environment.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{ChildStdout, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use crate::suite::{Ending, Verdict, bench};

/// Prices of gpt-4.1-mini and claude-haiku-4-5 in billionths of a dollar per token, input and output, as their
/// providers publish them, independent of the platform's own table.
const PRICES: [(&str, [i64; 2]); 2] = [("gpt-4.1-mini", [400, 1_600]), ("claude-haiku-4-5", [1_000, 5_000])];
const BOTH: [&str; 4] = ["--model", "openai=gpt-4.1-mini", "--model", "anthropic=claude-haiku-4-5"];

/// The simulator as a provider. It ends with its test.
struct Provider {
    _child: Ending,
    /// Kept open, because the simulator writes to it.
    _out: BufReader<ChildStdout>,
    address: String,
}

/// Starts a provider with its ledger in `folder`.
fn provider(folder: &TempDir, more: &[&str]) -> Provider {
    let child = Command::new(env!("CARGO_BIN_EXE_agentry-mutant"))
        .args(["sim", "llm", "--listen", "127.0.0.1:0", "--profile", "fast", "--ledger", "provider.jsonl"])
        .args(more)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Ending(child);
    let mut out = BufReader::new(child.0.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening on http://") {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "the simulator ended before it listened");
    }
    let address = line.rsplit("http://").next().unwrap().trim().to_owned();
    Provider { _child: child, _out: out, address }
}

/// Returns the lines of the provider's ledger.
fn sold(folder: &TempDir) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.path().join("provider.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the command of a 5.1 run with providers at an address.
fn live(folder: &TempDir, address: &str, args: &[&str]) -> Command {
    let mut command = bench(None, &["5.1", "--profile", "quick", "--live"], folder);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["OPENAI_", "ANTHROPIC_", "AWS_", "OLLAMA_"].iter().any(|start| text.starts_with(start)) {
            command.env_remove(&name);
        }
    }
    command.args(args).env("OPENAI_API_KEY", "test").env("ANTHROPIC_API_KEY", "test");
    command.env("OPENAI_BASE_URL", format!("http://{address}/v1"));
    command.env("ANTHROPIC_BASE_URL", format!("http://{address}"));
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn verdict(output: &Output, folder: &Path) -> Verdict {
    assert!(folder.join("report/report.json").exists(), "no report ({}): {}", output.status, said(output));
    Verdict::read(output.status.code().unwrap(), folder)
}

/// Returns a part of the only test of a report, by its name.
fn part<'a>(verdict: &'a Verdict, list: &str, key: &str, name: &str) -> &'a Value {
    let all = verdict.report["tests"][0][list].as_array().unwrap();
    all.iter().find(|part| part[key] == name).unwrap_or_else(|| panic!("no {name} among {list}: {all:#?}"))
}

fn metric(verdict: &Verdict, name: &str) -> f64 {
    part(verdict, "metrics", "name", name)["value"].as_f64().unwrap()
}

/// Converts dollars of a report to billionths.
fn nanos(dollars: f64) -> i64 {
    format!("{:.0}", dollars * 1e9).parse().unwrap()
}

#[test]
fn live_calls_are_judged_and_cost_what_the_provider_sold() {
    let folder = tempfile::tempdir().unwrap();
    let provider = provider(&folder, &["--require-key", "test"]);
    let args = ["--budget", "0.50", BOTH[0], BOTH[1], BOTH[2], BOTH[3]];
    let output = live(&folder, &provider.address, &args).output().unwrap();
    let verdict = verdict(&output, folder.path());
    let calls = sold(&folder);
    assert_eq!(calls.len(), 20, "{}", said(&output));
    let price = |line: &Value| {
        let (_, [input, output]) = PRICES.iter().find(|(model, _)| line["model"] == *model).unwrap();
        let of = |field: &str| line[field].as_i64().unwrap();
        of("input_tokens") * input + of("output_tokens") * output
    };
    assert_eq!(nanos(metric(&verdict, "llm.live.spent")), calls.iter().map(price).sum::<i64>());
    assert!(metric(&verdict, "llm.live.spent") <= metric(&verdict, "llm.live.estimate"));
    assert_eq!(nanos(metric(&verdict, "llm.live.budget")), 500_000_000);
    for name in ["openai", "anthropic"] {
        assert!(metric(&verdict, &format!("llm.live.{name}.overall_rate")) > 0.0);
    }
    // Ten calls show no 95th percentile: the figure is there, and the reason names the profile that decides it. On a
    // busy machine it is invalid.
    let judged = part(&verdict, "criteria", "id", "5.1/ttft-openai");
    assert!(judged["observed"].as_f64().is_some_and(|ms| ms > 0.0 && ms < 1_000.0), "{judged:#}");
    assert_eq!(judged["n"], 20);
    let reason = judged["reason"].as_str().unwrap();
    assert!(judged["verdict"] == "invalid" || reason.contains("only --profile ci can decide it"), "{judged:#}");
    assert!(reason.contains("openai/gpt-4.1-mini p95") && reason.contains("0 of 10 calls failed"), "{judged:#}");
    let ollama = part(&verdict, "criteria", "id", "5.1/ttft-ollama");
    assert_eq!((&ollama["verdict"], &ollama["reason"]), (&"not-run".into(), &"ollama: not called live".into()));
    let notes = verdict.report["harness"]["notes"].to_string();
    assert!(notes.contains("spent of a budget of $0.500000"), "{notes}");
}

#[test]
fn a_live_budget_below_the_estimate_is_refused_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let provider = provider(&folder, &[]);
    let output = live(&folder, &provider.address, &["--budget", "0.000001", BOTH[0], BOTH[1]]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("$0.002760") && said(&output).contains("$0.000001"), "{}", said(&output));
    let output = live(&folder, &provider.address, &[BOTH[0], BOTH[1]]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("agentry bench estimate"), "{}", said(&output));
    assert_eq!(sold(&folder).len(), 0);
}

#[test]
fn a_wrong_live_key_is_a_reason_and_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let provider = provider(&folder, &["--require-key", "another"]);
    let output = live(&folder, &provider.address, &["--budget", "0.50", BOTH[0], BOTH[1]]).output().unwrap();
    let verdict = verdict(&output, folder.path());
    let judged = part(&verdict, "criteria", "id", "5.1/ttft-openai");
    let reason = judged["reason"].as_str().unwrap();
    assert!(judged["verdict"] == "inconclusive" || judged["verdict"] == "invalid", "{judged:#}");
    assert!(reason.contains("Incorrect API key") && reason.contains("the first 5 calls failed"), "{judged:#}");
    assert_eq!(nanos(metric(&verdict, "llm.live.spent")), 0);
    assert!(metric(&verdict, "llm.clean.completed") > 0.0);
}

#[test]
fn live_calls_stop_when_the_budget_is_spent() {
    let folder = tempfile::tempdir().unwrap();
    let (greedy, calls) = greedy();
    let output = live(&folder, &greedy, &["--budget", "0.50", BOTH[0], BOTH[1]]).output().unwrap();
    let verdict = verdict(&output, folder.path());
    let judged = part(&verdict, "criteria", "id", "5.1/ttft-openai");
    assert!(judged["reason"].as_str().unwrap().contains("holds no further call"), "{judged:#}");
    // Each call counts 0.2 dollars: after two there is room for one more, which is the last. On a busy machine the
    // ledger may be read a call later.
    let sold = calls.load(Ordering::Relaxed);
    assert!((3..=4).contains(&sold), "{sold}: {judged:#}");
    assert_eq!(nanos(metric(&verdict, "llm.live.spent")), i64::try_from(sold).unwrap() * 200_016_000);
}

/// Starts a provider that counts half a million tokens per question; returns its address and its call counter.
fn greedy() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counted = Arc::clone(&counted);
            std::thread::spawn(move || answer(&stream, &counted));
        }
    });
    (address, calls)
}

/// Answers the request of a connection, if one arrives, and closes it.
fn answer(stream: &TcpStream, calls: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while reader.read_line(&mut head).ok()? > 2 {
        let line = head.lines().last()?.to_ascii_lowercase();
        length = line.strip_prefix("content-length:").map_or(length, |text| text.trim().parse().unwrap());
    }
    reader.take(length).read_to_end(&mut Vec::new()).ok()?;
    if !head.starts_with("POST") {
        return write!(&mut &*stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok();
    }
    calls.fetch_add(1, Ordering::Relaxed);
    let event = |more: &str| {
        format!("data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",{more}}}\n\n")
    };
    let body = [
        event(r#""choices":[{"index":0,"delta":{"role":"assistant","content":"Lima, Rome"},"finish_reason":null}]"#),
        event(r#""choices":[{"index":0,"delta":{},"finish_reason":"stop"}]"#),
        event(r#""choices":[],"usage":{"prompt_tokens":500000,"completion_tokens":10,"total_tokens":500010}"#),
        "data: [DONE]\n\n".to_owned(),
    ]
    .concat();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close";
    write!(&mut &*stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).ok()
}
