//! Keys, TLS and the live view, on the real binary.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Server, agentry, folder_with_fleet, json};

/// Makes a key in the store of a stopped server.
fn local_key(folder: &Path, scope: &str) -> String {
    let output = agentry(folder).args(["keys", "create", "ops", "--scope", scope, "--local"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn serve(folder: &Path, args: &[&str]) -> Server {
    Server::spawn(agentry(folder).args(["serve", "--sim"]).args(args).stderr(Stdio::null()))
}

fn said(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn with_a_key_it_listens_anywhere_and_asks_for_it() {
    let folder = folder_with_fleet();
    let key = local_key(folder.path(), "admin");
    let server = serve(folder.path(), &["--listen", "0.0.0.0:0"]);
    let url = server.url.replace("0.0.0.0", "127.0.0.1");
    let (code, text) = said(agentry(folder.path()).args(["agents", "--url", &url]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("(unauthorized)") && text.contains("AGENTRY_API_KEY"), "{text}");
    let (code, text) = said(agentry(folder.path()).args(["agents", "--url", &url]).env("AGENTRY_API_KEY", &key));
    assert!(code == Some(0) && text.contains("research-team"), "{text}");
    let (code, reader) =
        said(agentry(folder.path()).args(["keys", "create", "look", "--scope", "read", "--url", &url, "--key", &key]));
    assert_eq!(code, Some(0), "{reader}");
    let args = ["run", "writer", "a haiku", "--url", &url, "--key", reader.trim()];
    let (code, text) = said(agentry(folder.path()).args(args));
    assert!(code == Some(1) && text.contains("(scope_missing)"), "{text}");
    let rows = json(folder.path(), &["keys", "--url", &url, "--key", &key, "-o", "json"]);
    let names: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ops", "look"]);
}

/// What was said and answered, and hashes of keys, are nobody's business but the owner's.
#[cfg(unix)]
#[test]
fn files_are_private_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder_with_fleet();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let older = folder.path().join("older.jsonl");
    std::fs::write(&older, "").unwrap();
    std::fs::set_permissions(&older, std::fs::Permissions::from_mode(0o666)).unwrap();
    for args in [
        &["keys", "create", "ops", "--local"][..],
        &["run", "writer", "a haiku", "--sim", "--record", "tape.jsonl"],
        &["run", "writer", "a haiku", "--sim", "--record", "older.jsonl"],
    ] {
        let clean = agentry(folder.path());
        let mut umask = Command::new("sh");
        for (name, _) in clean.get_envs().filter(|(_, value)| value.is_none()) {
            umask.env_remove(name);
        }
        umask.args(["-c", "umask 000; exec \"$0\" \"$@\""]).arg(clean.get_program());
        let (code, text) = said(umask.args(args).current_dir(folder.path()));
        assert_eq!(code, Some(0), "{text}");
    }
    assert_eq!((mode(&folder.path().join("tape.jsonl")), mode(&older)), (0o600, 0o600));
    let data = folder.path().join("data");
    assert_eq!(mode(&data), 0o700);
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

/// What Compose runs before everything else: nothing answers without a key, and nobody has to make one by hand.
#[test]
fn the_first_keys_of_a_deployment_are_files() {
    let folder = folder_with_fleet();
    let dir = folder.path().join("keys");
    let init = || {
        let (code, text) = said(agentry(folder.path()).args(["keys", "init", "keys"]));
        assert!(code == Some(0) && !text.contains("agk_"), "a key is not in a log: {text}");
        text
    };
    let kept = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap().trim().to_owned();
    let made = init();
    assert!(made.contains("made a key with the scope admin: it is in keys/admin-key"), "{made}");
    let (admin, scrape) = (kept("admin-key"), kept("scrape-key"));
    #[cfg(unix)]
    for (name, expected) in [("admin-key", 0o600), ("scrape-key", 0o640)] {
        let mode = dir.join(name).metadata().unwrap().permissions();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, expected, "{name}");
    }
    assert!(!init().contains("made") && kept("admin-key") == admin && kept("scrape-key") == scrape);

    let server = serve(folder.path(), &["--listen", "0.0.0.0:0"]);
    let url = server.url.replace("0.0.0.0", "127.0.0.1");
    let keys = |key: &str| said(agentry(folder.path()).args(["keys", "--url", &url, "--key", key])).0;
    assert_eq!((keys(&admin), keys(&scrape)), (Some(0), Some(1)));
    let http = crate::http::Http::new(&url);
    let scraped = |headers: &[(&str, &str)]| http.send("GET", "/metrics", headers, Vec::new()).status;
    assert_eq!(scraped(&[("authorization", &format!("Bearer {scrape}"))]), 200);
    assert_eq!(scraped(&[]), 401);
    drop(server);

    std::fs::remove_dir_all(&dir).unwrap();
    let again = init();
    assert!(again.contains("so none was made") && !dir.join("admin-key").exists(), "{again}");
    assert_ne!(kept("scrape-key"), scrape);
}

#[test]
fn a_task_inside_this_process_needs_no_key() {
    let folder = folder_with_fleet();
    local_key(folder.path(), "admin");
    let task = json(folder.path(), &["run", "writer", "a haiku about queues", "--sim", "-o", "json"]);
    assert_eq!(task["status"], "completed", "{task}");
}

#[test]
fn a_key_that_is_demanded_must_exist() {
    let folder = folder_with_fleet();
    let args = ["serve", "--sim", "--listen", "127.0.0.1:0", "--auth", "required"];
    let (code, text) = said(agentry(folder.path()).args(args));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("agentry keys create ops --scope admin --local"), "{text}");
    let key = local_key(folder.path(), "admin");
    let server = serve(folder.path(), &args[2..]);
    let (code, text) = said(agentry(folder.path()).args(["workers", "--url", &server.url, "--key", &key]));
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn it_speaks_tls_with_the_certificate_it_is_given() {
    let folder = folder_with_fleet();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .unwrap_or_else(|error| panic!("openssl: {error}: install it (Debian: apt-get install openssl)"));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let server = serve(folder.path(), &["--listen", "127.0.0.1:0", "--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
    let url = server.url.strip_prefix("https://").unwrap_or_else(|| panic!("not TLS: {}", server.url)).to_owned();
    let (code, text) = said(agentry(folder.path()).args(["agents", "--url", &format!("https://{url}")]));
    assert!(code == Some(1) && text.contains("cannot reach"), "a certificate of nobody: {text}");
    let trusting = |args: &[&str]| said(agentry(folder.path()).args(args).env("SSL_CERT_FILE", &cert));
    let (code, text) = trusting(&["agents", "--url", &format!("https://{url}")]);
    assert!(code == Some(0) && text.contains("research-team"), "{text}");
    let (_, text) = said(agentry(folder.path()).args(["agents", "--url", &format!("http://{url}")]));
    assert!(text.contains("broke") || text.contains("cannot reach"), "plain HTTP gets nothing: {text}");
}

#[test]
fn tls_files_that_cannot_be_used_are_named() {
    let folder = folder_with_fleet();
    std::fs::write(folder.path().join("cert.pem"), "no certificate").unwrap();
    let serve = |args: &[&str]| said(agentry(folder.path()).args(["serve", "--listen", "127.0.0.1:0"]).args(args));
    let (code, text) = serve(&["--tls-cert", "cert.pem"]);
    assert!(code == Some(2) && text.contains("tls-key is not"), "{text}");
    let (code, text) = serve(&["--tls-cert", "cert.pem", "--tls-key", "cert.pem"]);
    assert!(code == Some(1) && text.contains("cert.pem: holds no certificate"), "{text}");
    let (code, text) = serve(&["--tls-cert", "gone.pem", "--tls-key", "gone.pem"]);
    assert!(code == Some(1) && text.contains("gone.pem: the certificate cannot be read"), "{text}");
}

#[test]
fn top_prints_one_picture_where_nobody_watches() {
    let folder = folder_with_fleet();
    let server = Server::start(folder.path());
    let (code, text) = said(agentry(folder.path()).args(["top", "--url", &server.url]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("research-team") && text.contains("workers alive"), "{text}");
    assert!(!text.contains('\u{1b}'), "no control characters in a pipe: {text:?}");
}
