//! A misbehaving server over streamable HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agentry_core::agent::{ToolAuthKind, ToolKind, ToolSpec};
use agentry_tools::{ToolBox, ToolError};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{agent, call, names, peak, server, text, tools, with_auth};

#[derive(Clone, Default)]
struct Server {
    /// Header and value that requests must have.
    wants: Option<(&'static str, &'static str)>,
    handshakes: Arc<AtomicUsize>,
}

async fn serve(server: Server) -> ToolSpec {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = Router::new().route("/mcp", post(answer)).with_state(server);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    crate::support::server(ToolKind::McpHttp { url: url.into() })
}

fn result(id: &Value, result: Value) -> Response {
    axum::Json(json!({"result": result, "jsonrpc": "2.0", "id": id})).into_response()
}

fn text_result(id: &Value, text: &str) -> Response {
    result(id, json!({"content": [{"type": "text", "text": text}]}))
}

/// Returns a 50 MB response, of which the server holds little at a time.
fn long(kind: &'static str, head: &str, piece: &str, tail: &str) -> Response {
    let piece = Bytes::from(piece.repeat(64 * 1024 / piece.len()));
    let pieces = std::iter::repeat_n(piece, 50 * 16);
    let all = std::iter::once(Bytes::from(head.to_owned())).chain(pieces).chain([Bytes::from(tail.to_owned())]);
    let body = Body::from_stream(futures_util::stream::iter(all.map(Ok::<_, std::io::Error>)));
    ([("content-type", kind)], body).into_response()
}

async fn answer(State(server): State<Server>, headers: HeaderMap, axum::Json(message): axum::Json<Value>) -> Response {
    if let Some((name, value)) = server.wants
        && headers.get(name).is_none_or(|sent| sent != value)
    {
        return (StatusCode::UNAUTHORIZED, format!("wrong {name}: {headers:?}")).into_response();
    }
    let id = &message["id"];
    match message["method"].as_str().unwrap() {
        "initialize" => {
            let number = server.handshakes.fetch_add(1, Ordering::Relaxed);
            let info = json!({"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}},
                "serverInfo": {"name": "h", "version": "1"}});
            ([("mcp-session-id", format!("s{number}"))], result(id, info)).into_response()
        }
        "tools/list" => {
            let names = ["echo", "big", "events", "numbers", "many", "html", "busy", "broken", "hang", "forget"];
            let tools: Vec<Value> = names.map(|name| json!({"name": name, "inputSchema": {"type": "object"}})).into();
            result(id, json!({"tools": tools}))
        }
        "tools/call" => tool(message["params"]["name"].as_str().unwrap(), id, &headers).await,
        _ => StatusCode::ACCEPTED.into_response(),
    }
}

async fn tool(name: &str, id: &Value, headers: &HeaderMap) -> Response {
    let head = r#"{"result":{"content":[{"type":"text","text":""#;
    let numbers = r#"{"result":{"content":[],"structuredContent":{"all":[0"#;
    let tail = format!(r#""}}]}},"jsonrpc":"2.0","id":{id}}}"#);
    let numbers_tail = format!(r#"]}}}},"jsonrpc":"2.0","id":{id}}}"#);
    match name {
        "echo" => text_result(id, headers["mcp-session-id"].to_str().unwrap()),
        "big" => long("application/json", head, "ä", &tail),
        "events" => {
            let head = format!(": a comment\n\nevent: message\ndata: {head}");
            long("text/event-stream; charset=utf-8", &head, "ä", &format!("{tail}\n\n"))
        }
        "numbers" => long("application/json", numbers, ",1234567", &numbers_tail),
        "many" => {
            let head = format!("data: {numbers}");
            long("text/event-stream", &head, ",1234567", &format!("{numbers_tail}\n\n"))
        }
        "html" => ([("content-type", "text/html")], "<html>the proxy says no</html>").into_response(),
        "busy" => (StatusCode::TOO_MANY_REQUESTS, "slow down").into_response(),
        "broken" => (StatusCode::BAD_GATEWAY, "<html>the proxy broke</html>").into_response(),
        "forget" if headers["mcp-session-id"] == "s0" => StatusCode::NOT_FOUND.into_response(),
        "forget" => text_result(id, headers["mcp-session-id"].to_str().unwrap()),
        _ => std::future::pending().await,
    }
}

#[tokio::test]
async fn credentials_are_sent_and_refusals_name_no_key() {
    for (kind, wants) in [
        (ToolAuthKind::BearerToken, ("authorization", "Bearer t0ken-of-this-machine")),
        (ToolAuthKind::Oauth2, ("authorization", "Bearer t0ken-of-this-machine")),
        (ToolAuthKind::ApiKey, ("x-api-key", "t0ken-of-this-machine")),
    ] {
        let spec = serve(Server { wants: Some(wants), ..Server::default() }).await;
        let tools = tools();
        assert_eq!(text(&tools, &with_auth(spec.clone(), kind), "echo").await, "s0");
        let error = call(&tools, &spec, "echo", "{}").await.unwrap_err();
        assert!(matches!(&error, ToolError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains("401"), "{error}");
    }
    // The server returns what it received.
    let spec = serve(Server { wants: Some(("x-api-key", "another")), ..Server::default() }).await;
    let spec = with_auth(spec, ToolAuthKind::ApiKey);
    let tools = tools();
    let error = call(&tools, &spec, "echo", "{}").await.unwrap_err().to_string();
    assert!(error.contains("[hidden]") && !error.contains("t0ken"), "{error}");
    let trouble = tools.trouble(&agent(vec![spec])).unwrap();
    assert!(trouble.contains("401") && !trouble.contains("t0ken"), "{trouble}");
}

#[tokio::test]
async fn fifty_megabytes_are_cut_as_json_and_as_events() {
    let (tools, spec) = (tools(), serve(Server::default()).await);
    text(&tools, &spec, "echo").await;
    let before = peak();
    for tool in ["big", "events"] {
        let text = text(&tools, &spec, tool).await;
        assert!(text.len() <= 1024 * 1024 + 64 && text.contains("[cut: the first "), "{}", text.len());
    }
    for tool in ["numbers", "many"] {
        let output = call(&tools, &spec, tool, "{}").await.unwrap();
        assert!(output.is_error && output.text.contains("ask for less"), "{output:?}");
    }
    assert_eq!(text(&tools, &spec, "echo").await, "s0", "the same session goes on");
    let grown = peak() - before;
    assert!(grown < 60 * 1024 * 1024, "{grown} bytes more for answers of 50 MB");
}

#[tokio::test]
async fn answers_that_are_none_are_told_apart() {
    let (tools, spec) = (tools(), serve(Server::default()).await);
    let error = call(&tools, &spec, "busy", "{}").await.unwrap_err();
    assert!(matches!(&error, ToolError::Unavailable { .. }) && error.to_string().contains("slow down"), "{error}");
    let tools = crate::support::tools();
    let error = call(&tools, &spec, "html", "{}").await.unwrap_err();
    assert!(matches!(&error, ToolError::Unknown { .. }) && error.to_string().contains("text/html"), "{error}");
    let error = call(&tools, &spec, "broken", "{}").await.unwrap_err();
    assert!(matches!(&error, ToolError::Unknown { .. }) && error.to_string().contains("502"), "{error}");
    let slow = ToolSpec { timeout_ms: 200, ..spec.clone() };
    let error = call(&tools, &slow, "hang", "{}").await.unwrap_err();
    assert!(matches!(&error, ToolError::Unknown { .. }) && error.to_string().contains("no whole answer"), "{error}");
    assert_eq!(text(&tools, &spec, "echo").await, text(&tools, &spec, "echo").await, "and it is still used");
}

#[tokio::test]
async fn a_session_that_the_server_forgot_is_made_anew() {
    let (tools, spec) = (tools(), serve(Server::default()).await);
    assert_eq!(text(&tools, &spec, "forget").await, "s1");
}

#[tokio::test]
async fn nobody_listening_is_unavailable_and_told() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (tools, spec) = (tools(), server(ToolKind::McpHttp { url: format!("http://127.0.0.1:{port}/mcp").into() }));
    assert_eq!(names(&tools, &spec).await, ["srv"]);
    let error = call(&tools, &spec, "echo", "{}").await.unwrap_err();
    assert!(matches!(&error, ToolError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}
