//! Who may do what: keys, sessions, hosts and origins, rates, and what is written down.

use std::num::NonZeroU32;

use agentry_core::access::{KeyHash, Scope};
use agentry_core::time::Timestamp;
use agentry_server::{Access, new_key, router};
use agentry_store::AccessStore as _;
use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};

use crate::support::{NOW, Server};

/// A server with a key of each scope; their texts in the order read, run, admin.
async fn with_keys(access: Access) -> (Server, [String; 3]) {
    let mut server = Server::new().await;
    server.deps.access = access;
    server.router = router(server.deps.clone());
    let mut texts = Vec::new();
    for scope in Scope::ALL {
        let (key, text) = new_key(scope.as_str(), scope, NOW, None).unwrap();
        server.store.add_key(&key).await.unwrap();
        texts.push(format!("Bearer {}", text.expose_secret()));
    }
    (server, texts.try_into().unwrap())
}

async fn status(server: &Server, method: &str, path: &str, headers: &[(&str, &str)]) -> (StatusCode, String) {
    let reply = server.call(method, path, headers, "{}").await;
    let code = serde_json::from_str(&reply.text).map_or(String::new(), |body: serde_json::Value| {
        body.get("code").and_then(|code| code.as_str()).unwrap_or_default().to_owned()
    });
    (reply.status, code)
}

#[tokio::test]
async fn no_key_is_needed_until_there_is_one() {
    let server = Server::new().await;
    assert_eq!(server.get("/v1/agents").await.status, 200);
    let made = server.post("/v1/keys", r#"{"name":"ops","scope":"read"}"#).await;
    assert_eq!(made.status, 422, "the first key must be able to make others: {}", made.text);
    let made = server.post("/v1/keys", r#"{"name":"ops","scope":"admin"}"#).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let refused = server.get("/v1/agents").await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (StatusCode::UNAUTHORIZED, Some("unauthorized")));
    assert!(refused.header("www-authenticate").starts_with("Bearer"));
    let bearer = format!("Bearer {}", made.json()["key"].as_str().unwrap());
    assert_eq!(server.call("GET", "/v1/agents", &[("authorization", &bearer)], "").await.status, 200);
    let listed = server.call("GET", "/v1/keys", &[("authorization", &bearer)], "").await;
    assert!(!listed.text.contains(made.json()["key"].as_str().unwrap()), "a key is shown once");
    for open in ["/health/live", "/health/ready", "/", "/ui/app.js", "/v1/me"] {
        assert_eq!(server.get(open).await.status, 200, "{open}");
    }
}

#[tokio::test]
async fn each_scope_includes_those_before_it_and_no_other() {
    let (server, keys) = with_keys(Access::default()).await;
    let cases = [
        ("GET", "/v1/tasks", [true, true, true]),
        ("GET", "/metrics", [true, true, true]),
        ("POST", "/v1/tasks", [false, true, true]),
        ("POST", "/v1/schedules/x/trigger", [false, true, true]),
        ("DELETE", "/v1/dead-letters/0192f3a4-7c1e-7b2a-9d3c-5e6f708192a3", [false, true, true]),
        ("GET", "/v1/audit", [false, false, true]),
        ("POST", "/v1/keys", [false, false, true]),
    ];
    for (method, path, allowed) in cases {
        assert_eq!(status(&server, method, path, &[]).await.0, 401, "{method} {path}");
        for (key, allowed) in keys.iter().zip(allowed) {
            let (_, code) = status(&server, method, path, &[("authorization", key)]).await;
            assert_eq!(code != "scope_missing", allowed, "{method} {path}: {code}");
        }
    }
    for bad in ["Bearer", "Bearer x", "Basic YTpi", "Bearer agk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        assert_eq!(status(&server, "GET", "/v1/tasks", &[("authorization", bad)]).await.1, "unauthorized", "{bad}");
    }
}

#[tokio::test]
async fn a_key_ends_when_it_is_revoked_or_expires() {
    let (server, [_, run, admin]) = with_keys(Access::default()).await;
    let (key, text) = new_key("short", Scope::Read, NOW, Some(Timestamp(NOW.0 + 60_000_000))).unwrap();
    server.store.add_key(&key).await.unwrap();
    let short = format!("Bearer {}", text.expose_secret());
    assert_eq!(status(&server, "GET", "/v1/tasks", &[("authorization", &short)]).await.0, 200);
    server.clock.advance(60);
    assert_eq!(status(&server, "GET", "/v1/tasks", &[("authorization", &short)]).await.0, 401);
    let keys = server.call("GET", "/v1/keys", &[("authorization", &admin)], "").await.json();
    let id = |name: &str| {
        let items = keys["items"].as_array().unwrap();
        items.iter().find(|key| key["name"] == name).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let path = format!("/v1/keys/{}", id("run"));
    assert_eq!(status(&server, "DELETE", &path, &[("authorization", &admin)]).await.0, 204);
    assert_eq!(status(&server, "GET", "/v1/tasks", &[("authorization", &run)]).await.0, 401, "at once, here");
    let path = format!("/v1/keys/{}", id("admin"));
    let last = status(&server, "DELETE", &path, &[("authorization", &admin)]).await;
    assert_eq!(last, (StatusCode::CONFLICT, "last_admin_key".to_owned()));
}

#[tokio::test]
async fn a_rotated_key_goes_on_for_an_hour() {
    let (server, [_, _, admin]) = with_keys(Access::default()).await;
    let keys = server.call("GET", "/v1/keys", &[("authorization", &admin)], "").await.json();
    let path = format!("/v1/keys/{}/rotate", keys["items"][2]["id"].as_str().unwrap());
    let made = server.call("POST", &path, &[("authorization", &admin)], "").await;
    assert_eq!((made.status, made.json()["name"].as_str()), (StatusCode::CREATED, Some("admin")), "{}", made.text);
    let new = format!("Bearer {}", made.json()["key"].as_str().unwrap());
    server.clock.advance(3_599);
    for key in [&admin, &new] {
        assert_eq!(status(&server, "GET", "/v1/keys", &[("authorization", key)]).await.0, 200);
    }
    server.clock.advance(1);
    assert_eq!(status(&server, "GET", "/v1/keys", &[("authorization", &admin)]).await.0, 401);
    assert_eq!(status(&server, "GET", "/v1/keys", &[("authorization", &new)]).await.0, 200);
}

#[tokio::test]
async fn a_session_is_a_strict_cookie_and_its_writes_carry_a_token() {
    let (server, [_, run, _]) = with_keys(Access::default()).await;
    let body = format!(r#"{{"key":"{}"}}"#, run.trim_start_matches("Bearer "));
    let opened = server.post("/v1/sign-in", body).await;
    assert_eq!(opened.status, 204, "{}", opened.text);
    let set = opened.header("set-cookie").to_owned();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict"), "{set}");
    let cookie = set.split(';').next().unwrap().to_owned();
    let me = server.call("GET", "/v1/me", &[("cookie", &cookie)], "").await.json();
    assert_eq!((me["name"].as_str(), me["scope"].as_str()), (Some("run"), Some("run")));
    let token = me["csrf"].as_str().unwrap();
    let task = r#"{"agent":"triage","input":"x"}"#;
    let bare = server.call("POST", "/v1/tasks", &[("cookie", &cookie)], task).await;
    assert_eq!((bare.status, bare.json()["code"].as_str()), (StatusCode::FORBIDDEN, Some("csrf_refused")));
    let good = server.call("POST", "/v1/tasks", &[("cookie", &cookie), ("x-csrf-token", token)], task).await;
    assert_eq!(good.status, 202, "{}", good.text);
    let tampered = format!("{}A", &cookie[..cookie.len() - 1]);
    let other = if tampered == cookie { format!("{}B", &cookie[..cookie.len() - 1]) } else { tampered };
    assert_eq!(status(&server, "GET", "/v1/tasks", &[("cookie", &other)]).await.0, 401);
    server.clock.advance(12 * 3_600);
    assert_eq!(status(&server, "GET", "/v1/tasks", &[("cookie", &cookie)]).await.0, 401, "it has ended");
}

/// Signs in with a key; the cookie.
async fn sign_in(server: &Server, key: &str) -> String {
    let body = format!(r#"{{"key":"{}"}}"#, key.trim_start_matches("Bearer "));
    let opened = server.post("/v1/sign-in", body).await;
    assert_eq!(opened.status, 204, "{}", opened.text);
    opened.header("set-cookie").split(';').next().unwrap().to_owned()
}

/// Whoever reads the database or a backup of it must not be able to make a cookie.
#[tokio::test]
async fn no_cookie_follows_from_what_the_store_keeps() {
    let (server, [_, _, admin]) = with_keys(Access::default()).await;
    let cookie = sign_in(&server, &admin).await;
    let key = server.store.keys().await.unwrap().into_iter().find(|key| key.scope == Scope::Admin).unwrap();
    // As sessions were made before they were random: the key's id and an end, signed with the key's hash.
    let mut said = key.id.as_bytes().to_vec();
    said.extend((NOW.0 + 10 * 365 * 86_400_000_000).to_be_bytes());
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.hash.0).unwrap();
    mac.update(b"session");
    mac.update(&said);
    said.extend(mac.finalize().into_bytes());
    let opens = async |forged: &[u8]| {
        let forged = format!("agentry_session={}", URL_SAFE_NO_PAD.encode(forged));
        status(&server, "GET", "/v1/keys", &[("cookie", &forged)]).await.0 != 401
    };
    assert!(!opens(&said).await && !opens(&key.hash.0).await);
    let token = URL_SAFE_NO_PAD.decode(cookie.split_once('=').unwrap().1).unwrap();
    let session = server.store.browser_session(KeyHash(Sha256::digest(&token).into())).await.unwrap().unwrap();
    assert!(!opens(&session.hash.0).await);
    assert_eq!(status(&server, "GET", "/v1/keys", &[("cookie", &cookie)]).await.0, 200);
    // Nor does the value that writes carry.
    let mut mac = Hmac::<Sha256>::new_from_slice(&session.hash.0).unwrap();
    mac.update(b"csrf");
    let forged = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    let refused = status(&server, "POST", "/v1/tasks", &[("cookie", &cookie), ("x-csrf-token", &forged)]).await;
    assert_eq!(refused.1, "csrf_refused");
}

/// A copy of the cookie is worth nothing after signing out: here at once, in other processes soon.
#[tokio::test]
async fn signing_out_ends_the_session_everywhere() {
    let (server, [read, ..]) = with_keys(Access::default()).await;
    let replica = router(server.deps.clone());
    let asks = async |router: &axum::Router, cookie: &str| {
        let request = axum::http::Request::get("/v1/tasks").header("cookie", cookie).body(axum::body::Body::empty());
        tower::ServiceExt::oneshot(router.clone(), request.unwrap()).await.unwrap().status().as_u16()
    };
    let (cookie, other) = (sign_in(&server, &read).await, sign_in(&server, &read).await);
    for router in [&server.router, &replica] {
        assert_eq!(asks(router, &cookie).await, 200);
    }
    assert_eq!(server.call("POST", "/v1/sign-out", &[("cookie", &cookie)], "").await.status, 204);
    assert_eq!(asks(&server.router, &cookie).await, 401);
    let refused = async {
        while asks(&replica, &cookie).await != 401 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), refused).await.expect("the replica goes on taking it");
    assert_eq!(asks(&server.router, &other).await, 200, "another session of the key goes on");
}

#[tokio::test]
async fn a_session_ends_with_its_key() {
    let (server, [read, _, admin]) = with_keys(Access::default()).await;
    let cookie = sign_in(&server, &read).await;
    let id = server.store.keys().await.unwrap().into_iter().find(|key| key.scope == Scope::Read).unwrap().id;
    assert_eq!(status(&server, "GET", "/v1/tasks", &[("cookie", &cookie)]).await.0, 200);
    let revoked = status(&server, "DELETE", &format!("/v1/keys/{id}"), &[("authorization", &admin)]).await;
    assert_eq!(revoked.0, 204);
    assert_eq!(status(&server, "GET", "/v1/tasks", &[("cookie", &cookie)]).await.0, 401);
}

/// A page that points its name at the server would read and act through a visitor's browser, wherever that listens.
#[tokio::test]
async fn without_keys_a_rebound_name_gets_nothing_whatever_the_bind() {
    let mut server = Server::new().await;
    server.deps.access = Access { hosts: vec!["api".to_owned()], ..Access::default() };
    server.router = router(server.deps.clone());
    let evil = [("host", "evil.example")];
    let key = r#"{"name":"x","scope":"admin"}"#;
    for (method, path) in [("GET", "/v1/tasks"), ("POST", "/v1/tasks"), ("POST", "/v1/keys"), ("GET", "/metrics")] {
        let reply = server.call(method, path, &evil, key).await;
        let refused = (reply.status, reply.json()["code"].as_str().map(str::to_owned));
        assert_eq!(refused, (StatusCode::MISDIRECTED_REQUEST, Some("host_refused".to_owned())), "{method} {path}");
    }
    assert!(server.store.keys().await.unwrap().is_empty());
    // Probes and scrapers come by address; services of the same network by a name that the settings allow.
    assert_eq!(status(&server, "GET", "/health/ready", &evil).await.0, 200);
    for host in ["172.18.0.5:8080", "localhost:8080", "api:8080"] {
        for path in ["/v1/tasks", "/metrics"] {
            assert_eq!(status(&server, "GET", path, &[("host", host)]).await.0, 200, "{host} {path}");
        }
    }
    let made = server.call("POST", "/v1/keys", &[("host", "api:8080")], key).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let bearer = format!("Bearer {}", made.json()["key"].as_str().unwrap());
    let with_key = [("host", "agents.example.com"), ("authorization", bearer.as_str())];
    assert_eq!(status(&server, "GET", "/v1/tasks", &with_key).await.0, 200, "with keys, whatever it is called");
    assert_eq!(status(&server, "GET", "/v1/tasks", &evil).await.0, 401);
}

#[tokio::test]
async fn hostile_hosts_and_origins_are_refused() {
    let (server, _) = with_keys(Access { loopback: true, ..Access::default() }).await;
    let rebound = status(&server, "GET", "/v1/tasks", &[("host", "evil.example")]).await;
    assert_eq!(rebound, (StatusCode::MISDIRECTED_REQUEST, "host_refused".to_owned()));
    let headers = [("host", "localhost:8080"), ("origin", "https://evil.example")];
    let foreign = status(&server, "POST", "/v1/sign-in", &headers).await;
    assert_eq!(foreign, (StatusCode::FORBIDDEN, "origin_refused".to_owned()));
    assert_eq!(status(&server, "GET", "/health/live", &[("host", "probe.internal")]).await.0, 200, "probes pass");
    assert_eq!(status(&server, "GET", "/metrics", &[]).await.0, 200, "on this machine scrapers need no key");
}

#[tokio::test]
async fn a_key_has_a_rate_and_guesses_have_one_too() {
    let (server, [read, ..]) = with_keys(Access { rate: NonZeroU32::new(3), ..Access::default() }).await;
    let mut limited = None;
    for _ in 0..200 {
        let reply = server.call("GET", "/v1/workers", &[("authorization", &read)], "").await;
        if reply.status == 429 {
            limited = Some(reply);
            break;
        }
    }
    let limited = limited.unwrap();
    assert_eq!((limited.json()["code"].as_str(), limited.header("retry-after")), (Some("rate_limited"), "1"));
    let mut codes = std::collections::BTreeSet::new();
    for _ in 0..400 {
        codes.insert(status(&server, "GET", "/v1/workers", &[("authorization", "Bearer nothing")]).await.1);
    }
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), ["rate_limited", "unauthorized"]);
}

#[tokio::test]
async fn every_change_is_written_down_with_who_and_what_came_of_it() {
    let (server, [read, run, admin]) = with_keys(Access::default()).await;
    let path = "/v1/schedules/nope/trigger";
    assert_eq!(status(&server, "POST", path, &[("authorization", &run)]).await.0, 404);
    assert_eq!(status(&server, "POST", path, &[("authorization", &read)]).await.0, 403);
    assert_eq!(status(&server, "POST", path, &[]).await.0, 401);
    let task = r#"{"agent":"triage","input":"x"}"#;
    assert_eq!(server.call("POST", "/v1/tasks", &[("authorization", &run)], task).await.status, 202);
    let log = server.call("GET", "/v1/audit?limit=2", &[("authorization", &admin)], "").await.json();
    let next = log["next_cursor"].as_str().unwrap();
    let rest = server.call("GET", &format!("/v1/audit?cursor={next}"), &[("authorization", &admin)], "").await.json();
    let mut found: Vec<String> = [&log, &rest]
        .iter()
        .flat_map(|page| page["items"].as_array().unwrap())
        .map(|line| format!("{} {} {} {}", line["who"], line["action"], line["target"], line["status"]))
        .collect();
    let expected =
        |who: &str, status: u16| format!(r#""{who}" "POST /v1/schedules/{{name}}/trigger" "{path}" {status}"#);
    let mut wanted = vec![expected("nobody", 401), expected("read", 403), expected("run", 404)];
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted, "a task is its own record");
}

#[tokio::test]
async fn answers_have_strict_headers_and_pages_a_policy() {
    let server = Server::new().await;
    let page = server.get("/").await;
    let policy = page.header("content-security-policy");
    assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    for path in ["/", "/ui/app.js", "/v1/agents", "/v1/nothing"] {
        let reply = server.get(path).await;
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(reply.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(reply.header("referrer-policy"), "no-referrer", "{path}");
    }
    let tag = page.header("etag").to_owned();
    let again = server.call(Method::GET.as_str(), "/", &[("if-none-match", &tag)], "").await;
    assert_eq!((again.status, again.text.as_str()), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(server.get("/ui/../Cargo.toml").await.status, 404);
    assert_eq!(server.get("/bench/..").await.status, 404);
}
