//! Levels of a running server's log: raised for a while, refused when they are none, and back by themselves.

use std::fs::File;
use std::path::Path;

use serde_json::Value;

use crate::http::Http;
use crate::support::{Server, agentry, folder_with_fleet, json, run};

fn lines(folder: &Path) -> Vec<Value> {
    let log = std::fs::read_to_string(folder.join("log")).unwrap();
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn levels_are_changed_while_the_server_runs() {
    let folder = folder_with_fleet();
    let mut command = agentry(folder.path());
    command.args(["serve", "--sim", "--listen", "127.0.0.1:0", "--log", "warn", "--log-format", "json"]);
    let server = Server::spawn(command.stderr(File::create(folder.path().join("log")).unwrap()));
    let url = ["--url", &server.url];
    let show = || json(folder.path(), &[&["log-level", "-o", "json"][..], &url].concat());
    assert_eq!(show()["filter"], "warn");
    let fine = |lines: &[Value]| lines.iter().any(|line| line["level"] == "DEBUG" || line["level"] == "TRACE");
    assert!(!fine(&lines(folder.path())));
    let raise = |time: &str| {
        let set = run(folder.path(), &[&["log-level", "warn,hyper_util=trace", "--for", time][..], &url].concat());
        assert!(set.contains("exit code: 0") && set.contains("then warn"), "{set}");
    };
    raise("10m");
    let http = Http::new(&server.url);
    http.submit("triage", "hello");
    http.until("finer lines", || fine(&lines(folder.path())).then_some(()));
    raise("1s");
    http.until("the usual filter", || (show() == serde_json::json!({"filter": "warn"})).then_some(()));
    let bad = run(folder.path(), &[&["log-level", "warn,agentry_bus=loud"][..], &url].concat());
    assert!(bad.contains("exit code: 1") && bad.contains("`agentry_bus=loud` at column 6"), "{bad}");
    assert_eq!(show()["filter"], "warn");
}
