//! Bedrock's signature, compared with the signer of AWS's own Python library.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agentry_core::agent::ProviderKind;
use serde_json::json;

use crate::common::call;
use crate::dialect::{Dialect, KEY, Part, Why};
use crate::server::Server;

const LIBRARY: &str = "botocore==1.40.70";

#[tokio::test]
async fn botocore_signs_the_same_requests_in_the_same_way() {
    let python = tokio::task::spawn_blocking(python).await.unwrap();
    let dialect = Dialect(ProviderKind::Bedrock);
    let server = Server::start(dialect.whole(&[Part::Text("hi")], Why::End)).await;
    let provider = dialect.endpoints(&server.url).provider(dialect.0);
    let models = [
        "anthropic.claude-3-5-sonnet-20241022-v2:0",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-v2:1",
        "a b+c~d_e",
    ];
    for model in models {
        let mut call = call("", "Grüße, wörld?");
        (call.target.provider, call.target.model) = (dialect.0, model.into());
        provider.call(&call, None).await.unwrap();
        let asked = server.asked().pop().unwrap();
        let header = |name: &str| asked.header(name).unwrap().to_owned();
        let request = json!({
            "url": format!("{}{}", server.url, asked.path()),
            "headers": {"content-type": header("content-type"), "x-amz-date": header("x-amz-date")},
            "body": asked.body, "id": "AKIDEXAMPLE", "secret": KEY, "token": KEY, "region": "us-east-1",
        });
        let signature = sign(&python, &request.to_string());
        assert_eq!(signature.trim(), header("authorization"), "{model}: {}", asked.path());
    }
}

fn sign(python: &Path, request: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sign_again.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns a Python with the library, installed once in the build directory.
fn python() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("botocore");
    let (python, done) = (folder.join("bin/python"), folder.join(LIBRARY));
    if !done.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", LIBRARY]));
        std::fs::write(done, "").unwrap();
    }
    python
}

fn run(command: &mut Command) {
    let hint = "this test needs Python 3 with venv (Debian: apt-get install python3-venv) and, the first time, PyPI";
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}\n{hint}"));
    assert!(output.status.success(), "{command:?}: {}\n{hint}", String::from_utf8_lossy(&output.stderr));
}
