//! The dashboard and the alert rules of `deploy/compose/observability`, held against a real Prometheus that scrapes a
//! real server: a panel that shows nothing, or a rule about a metric that does not exist, fails.
//!
//! Prometheus and promtool are found on the path, or installed by `cargo xtask test`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::http::Http;
use crate::support::{Server, folder_with_fleet};

const HELP: &str = "run `cargo xtask prometheus`, which finds or installs it (Debian: apt-get install prometheus)";

fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/compose/observability")
}

/// Every query of the dashboard, with its panel.
fn queries() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(files().join("grafana/dashboards/agentry.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let of_panel = |panel: &Value| -> Vec<(String, String)> {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| (title.to_owned(), target["expr"].as_str().unwrap().to_owned())).collect()
    };
    panels.flat_map(of_panel).collect()
}

/// Names of our metrics in a query.
fn metrics(query: &str) -> BTreeSet<String> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("agentry_")).map(str::to_owned).collect()
}

/// A Prometheus that scrapes one server every second; ends with its test.
struct Prometheus {
    child: Child,
    url: String,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(folder: &Path, target: &str) -> Self {
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\n\
             scrape_configs:\n  - job_name: agentry\n    static_configs: [{{targets: ['{target}']}}]\n",
            json!(files().join("rules.yml"))
        );
        std::fs::write(folder.join("prometheus.yml"), config).unwrap();
        // It does not tell which port it took, so one is chosen for it.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus cannot be started: {error}\n{HELP}"));
        Self { child, url: format!("http://127.0.0.1:{port}") }
    }
}

/// The values of a query now.
fn values(http: &Http, query: &str) -> Vec<f64> {
    let path = format!("/api/v1/query?query={}", percent(query));
    let answer = http.get(&path);
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    let rows = answer["data"]["result"].as_array().unwrap();
    rows.iter().map(|row| row["value"][1].as_str().unwrap().parse().unwrap()).collect()
}

fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A server that was asked something good and something bad by every kind of caller.
fn worked() -> (tempfile::TempDir, Server) {
    let folder = folder_with_fleet();
    let server = Server::start(folder.path());
    let http = Http::new(&server.url);
    let mut tasks: Vec<String> = (0..20).map(|n| http.submit("triage", &format!("order {n} is late"))).collect();
    // A call fails once and is made again: what never happened is not shown.
    tasks.push(http.submit("triage", "[[fail:500:1]] and this one"));
    for task in tasks {
        http.task_in(&task, &["completed", "failed"]);
    }
    (folder, server)
}

#[test]
fn every_panel_shows_data_of_a_real_scrape() {
    let (folder, server) = worked();
    let prometheus = Prometheus::start(folder.path(), server.url.trim_start_matches("http://"));
    let (http, api) = (Http::new(&prometheus.url), Http::new(&server.url));
    // Ready before it is asked: the port is open only then.
    let ready = || std::net::TcpStream::connect(prometheus.url.trim_start_matches("http://")).is_ok();
    api.until("Prometheus to listen", || ready().then_some(()));
    api.until("two scrapes", || {
        // Work goes on, so that rates are not those of an idle server.
        api.submit("triage", "and this one?");
        let seen = http.send("GET", "/api/v1/query?query=count_over_time(up%5B1m%5D)", &[], Vec::new()).json();
        let scrapes = seen["data"]["result"][0]["value"][1].as_str().and_then(|count| count.parse::<f64>().ok());
        scrapes.filter(|count| *count >= 3.0)
    });
    let queries = queries();
    assert!(queries.len() > 20, "{}", queries.len());
    for (panel, query) in queries {
        let now = query.replace("$__rate_interval", "1m");
        // One failure before the first scrape is no rate; that the metric exists is what can be seen.
        if query.contains("_errors_total") {
            let exposition = String::from_utf8(api.send("GET", "/metrics", &[], Vec::new()).body).unwrap();
            assert!(exposition.contains("# TYPE agentry_llm_errors_total counter"), "{panel}");
            continue;
        }
        let shown = values(&http, &now);
        assert!(!shown.is_empty(), "the panel `{panel}` shows nothing: {now}");
    }
    let rules = http.get("/api/v1/rules");
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 10);
    for rule in rules {
        assert!(rule["lastError"].is_null(), "{rule}");
        assert_eq!(rule["state"], "inactive", "nothing is wrong here: {rule}");
    }
}

#[test]
fn rules_and_panels_name_metrics_that_exist() {
    let (_folder, server) = worked();
    let exposition = String::from_utf8(Http::new(&server.url).send("GET", "/metrics", &[], Vec::new()).body).unwrap();
    let rules = std::fs::read_to_string(files().join("rules.yml")).unwrap();
    let mut named = metrics(&rules);
    named.extend(queries().iter().flat_map(|(_, query)| metrics(query)));
    assert!(named.len() > 12, "{named:?}");
    for name in named {
        let family = name.trim_end_matches("_bucket");
        assert!(exposition.contains(&format!("# TYPE {family} ")), "no process shows `{name}`");
    }
}

#[test]
fn promtool_accepts_the_rules_and_what_a_server_shows() {
    let promtool = |args: &[&str]| {
        let mut command = Command::new("promtool");
        command.args(args).current_dir(files());
        command
    };
    // Only the syntax of the configuration: the key that it names is in a volume.
    let config = &["check", "config", "--syntax-only", "prometheus.yml"][..];
    for args in [&["check", "rules", "rules.yml"][..], config] {
        let output = promtool(args).output().unwrap_or_else(|error| panic!("promtool: {error}\n{HELP}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let (folder, server) = worked();
    let exposition = Http::new(&server.url).send("GET", "/metrics", &[], Vec::new()).body;
    let file = folder.path().join("metrics");
    std::fs::write(&file, exposition).unwrap();
    let output = promtool(&["check", "metrics"]).stdin(std::fs::File::open(&file).unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
