//! One trace from ingress to delivery, as a collector of OTLP sees it, and as log lines show it.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use prost::Message as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::Http;
use crate::listener::Listener;
use crate::support::{Server, agentry};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
const INPUT: &str = r#"Open sesame. [[tool:crm {"q":"sesame"}]]"#;

/// A folder with one agent that has a tool at this address.
fn folder(tool: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    let text = format!(
        "name: worker\nexecution_mode: autonomous\nllm_config: {{provider: openai, model: gpt-4.1-mini}}\n\
         system_prompt: You help.\ntools:\n  - {{name: crm, type: http, url: '{tool}', description: Customers.}}\n"
    );
    std::fs::write(folder.path().join("agents/worker.yml"), text).unwrap();
    folder
}

fn serve(folder: &Path) -> Command {
    let mut command = agentry(folder);
    let log = File::create(folder.join("log")).unwrap();
    command.args(["serve", "--sim", "--listen", "127.0.0.1:0", "--log-format", "json"]).stderr(log);
    command
}

/// A task in a trace of the caller's; its id.
fn submit(http: &Http, traceparent: &str, body: &Value) -> String {
    let reply = http.post("/v1/tasks", &[("traceparent", traceparent)], body);
    assert_eq!(reply.status, 202, "{}", reply.json());
    reply.json()["id"].as_str().unwrap().to_owned()
}

/// Everything that the collector was sent.
fn spans(collector: &Listener) -> Vec<Span> {
    let exports = collector.seen().into_iter().map(|posted| {
        assert_eq!((posted.path.as_str(), posted.header("content-type")), ("/v1/traces", "application/x-protobuf"));
        ExportTraceServiceRequest::decode(posted.body.as_slice()).unwrap()
    });
    let of_resources = exports.flat_map(|export| export.resource_spans);
    of_resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, name: &str) -> Value {
    let found = span.attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.clone()?.value) {
        Some(Any::StringValue(text)) => text.into(),
        Some(Any::IntValue(number)) => number.into(),
        other => panic!("{name} of {}: {other:?}", span.name),
    }
}

#[test]
fn a_collector_sees_the_tree_from_ingress_to_delivery() {
    let (collector, outside) = (Listener::start(&[]), Listener::start(&[]));
    let folder = folder(&outside.url);
    let server = Server::spawn(serve(folder.path()).env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url));
    let http = Http::new(&server.url);
    let callback = format!("{}/callback", outside.url);
    let body = json!({"agent": "worker", "input": INPUT, "callback_url": callback});
    let task = submit(&http, &format!("00-{TRACE}-{CALLER}-01"), &body);
    let all = http.until("six spans of the trace", || {
        let all = spans(&collector);
        (all.iter().filter(|span| hex(&span.trace_id) == TRACE).count() >= 6).then_some(all)
    });
    let tree: Vec<&Span> = all.iter().filter(|span| hex(&span.trace_id) == TRACE).collect();
    let named = |name: &str| -> Vec<&Span> { tree.iter().copied().filter(|span| span.name == name).collect() };
    let one = |name: &str| match named(name)[..] {
        [span] => span,
        ref others => panic!("{name}: {others:?}"),
    };
    let (request, run, tool) = (one("POST /v1/tasks"), one("invoke_agent worker"), one("execute_tool crm"));
    let (chats, delivery) = (named("chat gpt-4.1-mini"), one("deliver callback"));
    assert_eq!((hex(&request.parent_span_id).as_str(), request.kind()), (CALLER, SpanKind::Server));
    assert_eq!(run.parent_span_id, request.span_id);
    assert_eq!(chats.len(), 2, "one that calls the tool, one that answers");
    for span in [tool, delivery].into_iter().chain(chats.iter().copied()) {
        assert_eq!(span.parent_span_id, run.span_id, "{}", span.name);
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano && span.start_time_unix_nano > 0);
    }
    assert_eq!(tree.len(), 6, "{:?}", tree.iter().map(|span| &span.name).collect::<Vec<_>>());
    assert_eq!(attribute(request, "http.response.status_code"), 202);
    assert_eq!(attribute(run, "agentry.task.id"), task);
    assert_eq!(attribute(run, "agentry.task.status"), "completed");
    assert_eq!(attribute(run, "gen_ai.agent.name"), "worker");
    assert_eq!(attribute(tool, "gen_ai.tool.name"), "crm");
    for chat in chats {
        assert_eq!(attribute(chat, "gen_ai.provider.name"), "openai");
        assert!(attribute(chat, "gen_ai.usage.input_tokens").as_i64().unwrap() > 0);
        assert!(attribute(chat, "gen_ai.response.model").as_str().unwrap().starts_with("gpt-4.1-mini"));
    }
    // Whoever was called hangs what it does under the span of the call.
    let posted = |path: &str| outside.seen().into_iter().find(|posted| posted.path == path).unwrap();
    let traceparent = |span: &Span| format!("00-{TRACE}-{}-01", hex(&span.span_id));
    assert_eq!(posted("/").header("traceparent"), traceparent(tool));
    assert_eq!(posted("/callback").header("traceparent"), traceparent(delivery));
    assert!(!format!("{all:?}").contains("sesame"), "what is said stays out of spans");
}

#[test]
fn what_the_caller_does_not_keep_is_not_exported() {
    let (collector, outside) = (Listener::start(&[]), Listener::start(&[]));
    let folder = folder(&outside.url);
    let server = Server::spawn(serve(folder.path()).env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url));
    let http = Http::new(&server.url);
    let body = json!({"agent": "worker", "input": INPUT});
    let unkept = submit(&http, &format!("00-{TRACE}-{CALLER}-00"), &body);
    http.task_in(&unkept, &["completed"]);
    let other = "11111111111111111111111111111111";
    submit(&http, &format!("00-{other}-{CALLER}-01"), &body);
    http.until("the span of a later task", || {
        let is_it = |span: &Span| hex(&span.trace_id) == other && span.name == "invoke_agent worker";
        spans(&collector).iter().any(is_it).then_some(())
    });
    assert!(spans(&collector).iter().all(|span| hex(&span.trace_id) != TRACE));
    let flags: Vec<String> = outside.seen().iter().map(|posted| posted.header("traceparent").to_owned()).collect();
    assert_eq!(flags[0], format!("00-{TRACE}-{CALLER}-00"), "and nobody further down is told to");
}

#[test]
fn a_collector_that_is_gone_costs_nothing_but_spans() {
    let outside = Listener::start(&[]);
    let folder = folder(&outside.url);
    // Nothing listens on port 1.
    let server = Server::spawn(serve(folder.path()).env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"));
    let http = Http::new(&server.url);
    let task = http.submit("worker", INPUT);
    assert_eq!(http.task_in(&task, &["completed", "failed"])["status"], "completed");
    let killed = Command::new("kill").args(["-TERM", &server.pid()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(server.wait(), Some(0));
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("spans are lost") || log.contains("the last spans were not sent"), "{log}");
}

#[test]
fn log_lines_of_a_task_name_its_trace_without_a_collector() {
    let outside = Listener::start(&[]);
    let folder = folder(&outside.url);
    let server = Server::spawn(serve(folder.path()).args(["--log", "debug"]));
    let http = Http::new(&server.url);
    let task = submit(&http, &format!("00-{TRACE}-{CALLER}-01"), &json!({"agent": "worker", "input": INPUT}));
    http.task_in(&task, &["completed"]);
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    // The connection to the tool was opened for the task.
    let of_task: Vec<&Value> = lines.iter().filter(|line| line["trace_id"] == TRACE).collect();
    assert!(of_task.iter().any(|line| line["target"].as_str().unwrap().starts_with("hyper_util")), "{of_task:?}");
    assert!(of_task.iter().all(|line| line.get("span_id").is_none()), "no span, no id: {of_task:?}");
}
