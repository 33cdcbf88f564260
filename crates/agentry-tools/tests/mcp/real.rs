//! The reference servers of the protocol's authors, from npm, at pinned versions.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agentry_core::agent::{ToolKind, ToolSpec};
use agentry_tools::ToolBox;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::{agent, call, names, server, stdio, text, tools};

const PACKAGES: &[&str] =
    &["@modelcontextprotocol/server-everything@2026.8.31", "@modelcontextprotocol/server-filesystem@2026.8.31"];
const HINT: &str = "the reference MCP servers need Node.js 20 and npm: `cargo xtask test` installs them on Debian as root, \
                    elsewhere install nodejs and npm";

/// Returns the directory with the packages, in the user's cache; installed once.
fn installed() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(Path::new(&home).join(".cache"))
    });
    let folder = cache.expect("HOME is set").join("agentry/mcp-servers");
    let ready = folder.join("2026.8.31");
    if ready.is_dir() {
        return ready;
    }
    std::fs::create_dir_all(&folder).unwrap();
    // Several tests may install at once; the first to finish wins.
    let own = tempfile::tempdir_in(&folder).unwrap();
    let npm = Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock", "--prefix"])
        .arg(own.path())
        .args(PACKAGES)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("npm: {error}; {HINT}"));
    assert!(npm.status.success(), "npm: {}; {HINT}", String::from_utf8_lossy(&npm.stderr));
    if std::fs::rename(own.path(), &ready).is_ok() {
        let _ = own.keep();
    }
    assert!(ready.is_dir(), "the servers are not in {}", ready.display());
    ready
}

fn script(name: &str) -> String {
    installed().join("node_modules/@modelcontextprotocol").join(name).join("dist/index.js").display().to_string()
}

async fn everything(spec: &ToolSpec) {
    let tools = tools();
    let names = names(&tools, spec).await;
    assert!(names.len() > 5 && names.contains(&"srv__echo".to_owned()), "{names:?}");
    let echo = call(&tools, spec, "echo", r#"{"message":"grüße"}"#).await.unwrap();
    assert!(!echo.is_error && echo.text.contains("grüße"), "{echo:?}");
    let sum = call(&tools, spec, "get-sum", r#"{"a":2,"b":40}"#).await.unwrap();
    assert!(sum.text.contains("42"), "{sum:?}");
    let wrong = call(&tools, spec, "get-sum", r#"{"a":"two"}"#).await.unwrap_err();
    assert!(wrong.to_string().contains("/a") && wrong.to_string().contains("required"), "{wrong}");
    let image = text(&tools, spec, "get-tiny-image").await;
    assert!(image.contains("[image, image/png, ") && image.len() < 1_000, "{image}");
    let weather = call(&tools, spec, "get-structured-content", r#"{"location":"Chicago"}"#).await.unwrap();
    let weather: serde_json::Value = serde_json::from_str(&weather.text).expect("told once, as JSON");
    assert!(weather["temperature"].is_number(), "{weather}");
    let resource = call(&tools, spec, "get-resource-reference", r#"{"resourceType":"Text","resourceId":1}"#).await;
    assert!(resource.as_ref().is_ok_and(|output| output.text.contains("[resource demo://")), "{resource:?}");
    let links = text(&tools, spec, "get-resource-links").await;
    assert!(links.contains("[link to demo://"), "{links}");
    let slow = ToolSpec { timeout_ms: 500, ..spec.clone() };
    let late = call(&tools, &slow, "trigger-long-running-operation", r#"{"duration":60,"steps":60}"#).await;
    assert!(late.unwrap_err().to_string().contains("no whole answer"), "its progress is not an answer");
    tools.close().await;
}

#[tokio::test]
async fn the_everything_server_over_stdio() {
    everything(&stdio(&["node", &script("server-everything"), "stdio"])).await;
}

#[tokio::test]
async fn the_everything_server_over_http() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut node = tokio::process::Command::new("node")
        .args([&script("server-everything"), "streamableHttp"])
        .env("PORT", port.to_string())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("node: {error}; {HINT}"));
    let mut lines = BufReader::new(node.stderr.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains("listening") {
            break;
        }
    }
    let drained = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    everything(&server(ToolKind::McpHttp { url: format!("http://127.0.0.1:{port}/mcp").into() })).await;
    node.kill().await.unwrap();
    drained.await.unwrap();
}

#[tokio::test]
async fn the_filesystem_server_reads_and_writes_within_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let spec = stdio(&["node", &script("server-filesystem"), root.to_str().unwrap()]);
    let tools = tools();
    let file = root.join("note.txt").display().to_string();
    let write = json!({"path": file, "content": "remember"}).to_string();
    assert!(!call(&tools, &spec, "write_file", &write).await.unwrap().is_error);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "remember");
    let read = call(&tools, &spec, "read_text_file", &json!({"path": file}).to_string()).await.unwrap();
    assert_eq!(read.text.lines().next(), Some("remember"), "{read:?}");
    let outside = call(&tools, &spec, "read_text_file", r#"{"path":"/etc/passwd"}"#).await.unwrap();
    assert!(outside.is_error, "{outside:?}");
    assert_eq!(tools.trouble(&agent(vec![spec])), None);
    tools.close().await;
}
