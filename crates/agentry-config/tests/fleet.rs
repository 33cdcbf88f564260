//! Fleets: loading, live versions of bad files, variables, the shipped example fleet, and watching.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use agentry_config::{FleetHandle, FleetWatcher, load_fleet, reload, validate_paths, validate_text};
use agentry_core::agent::{ExecutionMode, ProviderKind, ToolKind};
use agentry_core::fleet::Fleet;
use agentry_core::prices::PriceTable;
use agentry_core::time::Timestamp;

/// Maximum time for a change to be seen before a test fails; far above the usual time.
const PATIENCE: Duration = Duration::from_secs(30);

fn agent(name: &str, more: &str) -> String {
    format!(
        "name: {name}\nexecution_mode: autonomous\nllm_config: {{provider: simulated, model: echo}}\nsystem_prompt: You help.\n{more}"
    )
}

fn write(dir: &Path, file: &str, text: &str) {
    fs::write(dir.join(file), text).unwrap();
}

fn version(fleet: &Fleet, name: &str) -> Option<String> {
    fleet.entry(name)?.spec.as_ref().map(|spec| spec.version.to_string())
}

#[test]
fn every_key_and_every_other_name_of_one_is_read() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "full.yml", include_str!("good/full.yml"));
    let loaded = load_fleet(dir.path());
    assert_eq!(loaded.problems, []);
    let spec = loaded.fleet.entry("full").unwrap().spec.clone().unwrap();
    let mut shown = serde_json::to_value(&*spec).unwrap();
    shown.sort_all_objects();
    insta::assert_snapshot!("full", serde_json::to_string_pretty(&shown).unwrap());
}

#[test]
fn older_names_of_keys_mean_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for (file, host) in [("a", "host"), ("b", "base_url"), ("c", "api_base"), ("d", "endpoint_url")] {
        let text = format!(
            "name: {file}\nexecution_mode: autonomous\nsystem_prompt: You help.\nllm_config:\n  provider: aws_bedrock\n  model_id: m\n  aws_region: eu\n  {host}: http://localhost:1/\n"
        );
        write(dir.path(), &format!("{file}.yaml"), &text);
    }
    let loaded = load_fleet(dir.path());
    assert_eq!(loaded.problems, []);
    for name in ["a", "b", "c", "d"] {
        let target = loaded.fleet.entry(name).unwrap().spec.clone().unwrap().llm.target.clone();
        assert_eq!(target.provider, ProviderKind::Bedrock);
        assert_eq!((&*target.model, target.region.as_deref()), ("m", Some("eu")));
        assert_eq!(target.base_url.as_deref(), Some("http://localhost:1"));
    }
}

#[test]
fn tools_are_reached_by_url_or_command() {
    let text = agent(
        "t",
        "tools:\n  - {name: a, type: function, url: 'https://x'}\n  - {name: b, type: mcp, url: 'https://x'}\n  - {name: c, type: mcp, command: srv --stdio}\n  - {name: d, type: mcp, command: [srv, 'a b']}\n",
    );
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "t.yml", &text);
    let spec = load_fleet(dir.path()).fleet.entry("t").unwrap().spec.clone().unwrap();
    let kinds: Vec<_> = spec.tools.iter().map(|tool| tool.kind.clone()).collect();
    assert_eq!(kinds[0], ToolKind::Http { url: "https://x".into() });
    assert_eq!(kinds[1], ToolKind::McpHttp { url: "https://x".into() });
    assert_eq!(kinds[2], ToolKind::McpStdio { command: vec!["srv".into(), "--stdio".into()], env: Vec::new() });
    assert_eq!(kinds[3], ToolKind::McpStdio { command: vec!["srv".into(), "a b".into()], env: Vec::new() });
}

#[test]
fn what_an_mcp_server_is_started_with_stays_as_written() {
    let text = agent(
        "t",
        "tools:\n  - {name: a, type: mcp, command: [srv, '${CARGO_PKG_NAME}'], env: {KEY: '${NO_SUCH_VARIABLE_HERE}', MODE: '${CARGO_PKG_NAME}'}, allowed_tools: [read]}\n",
    );
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "t.yml", &text);
    let loaded = load_fleet(dir.path());
    let spec = loaded.fleet.entry("t").unwrap().spec.clone().unwrap();
    let env = vec![("KEY".into(), "${NO_SUCH_VARIABLE_HERE}".into()), ("MODE".into(), "${CARGO_PKG_NAME}".into())];
    let command = vec!["srv".into(), "${CARGO_PKG_NAME}".into()];
    assert_eq!(spec.tools[0].kind, ToolKind::McpStdio { command, env });
    assert_eq!(spec.tools[0].allowed_tools, ["read".into()]);
    assert!(
        loaded.warnings.iter().any(|warning| warning.message.contains("NO_SUCH_VARIABLE_HERE")),
        "told all the same"
    );
}

#[test]
fn keys_that_mean_nothing_for_a_kind_of_tool_are_told() {
    let dir = tempfile::tempdir().unwrap();
    for (tool, expected) in [
        ("{name: a, type: http, url: 'https://x', env: {A: b}}", "starts no program"),
        ("{name: a, type: mcp, url: 'https://x', env: {A: b}}", "starts no program"),
        ("{name: a, type: http, url: 'https://x', allowed_tools: [b]}", "is one tool"),
        ("{name: a, type: mcp, command: x, env: [A]}", "`env` must be a mapping"),
        ("{name: a, type: mcp, command: x, env: {PORT: 80}}", "`PORT` must be text"),
    ] {
        write(dir.path(), "t.yml", &agent("t", &format!("tools:\n  - {tool}\n")));
        let problems = load_fleet(dir.path()).problems;
        assert!(problems.iter().any(|problem| problem.message.contains(expected)), "{tool}: {problems:?}");
    }
}

#[test]
fn a_bad_file_keeps_its_previous_version_and_harms_no_other() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "one.yml", &agent("one", ""));
    write(dir.path(), "two.yml", &agent("two", ""));
    let first = load_fleet(dir.path()).fleet;
    let before = version(&first, "one").unwrap();
    for bad in [agent("one", "colour: red\n"), "name: [".to_owned(), String::new(), agent("other", "colour: red\n")] {
        write(dir.path(), "one.yml", &bad);
        write(dir.path(), "three.yml", &bad);
        let second = reload(&first, dir.path());
        let entry = second.fleet.entry("one").unwrap();
        assert_eq!(entry.spec.as_ref().unwrap().version.as_ref(), before, "{bad}");
        assert!(entry.error.as_ref().unwrap().contains("one.yml"), "{bad}");
        assert!(second.fleet.entry("two").unwrap().error.is_none());
        assert_eq!(second.fleet.len(), 3, "the new bad file is an agent without a version: {bad}");
        let fresh = second.fleet.iter().find(|(_, entry)| entry.file.contains("three")).unwrap();
        assert!(fresh.1.spec.is_none() && fresh.1.error.is_some());
    }
    fs::remove_file(dir.path().join("three.yml")).unwrap();
    fs::remove_file(dir.path().join("one.yml")).unwrap();
    let third = reload(&first, dir.path()).fleet;
    assert!(third.entry("one").is_none() && third.len() == 1);
}

#[test]
fn of_two_files_with_one_name_the_one_that_had_it_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "m.yml", &agent("twin", "description: first\n"));
    let first = load_fleet(dir.path()).fleet;
    write(dir.path(), "a.yml", &agent("twin", "description: second\n"));
    let second = reload(&first, dir.path());
    let entry = second.fleet.entry("twin").unwrap();
    assert_eq!(entry.spec.as_ref().unwrap().description.as_deref(), Some("first"));
    let error = entry.error.as_ref().unwrap();
    assert!(error.contains("a.yml") && second.problems[0].to_string().contains("m.yml"), "{error}");
}

#[test]
fn a_cycle_of_collaborators_is_refused_and_a_chain_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let team = |name: &str, with: &str| {
        agent(name, &format!("collaborative_config: {{preferred_collaborators: [{with}]}}\n"))
            .replace("autonomous", "collaborative")
    };
    write(dir.path(), "a.yml", &team("a", "b"));
    write(dir.path(), "b.yml", &team("b", "c, d"));
    write(dir.path(), "c.yml", &agent("c", ""));
    write(dir.path(), "d.yml", &team("d", "c"));
    assert_eq!(load_fleet(dir.path()).problems, []);
    write(dir.path(), "d.yml", &team("d", "b"));
    let loaded = load_fleet(dir.path());
    let live = |name: &str| loaded.fleet.entry(name).unwrap().spec.is_some();
    assert!(live("a") && live("c") && !live("b") && !live("d"), "{:?}", loaded.problems);
    assert_eq!(loaded.problems.len(), 2);
}

#[test]
fn variables_fill_text_only_and_tokens_stay_as_they_are() {
    // Cargo sets this variable for every test it runs.
    let package = std::env::var("CARGO_PKG_NAME").unwrap();
    let more = "description: \"of ${CARGO_PKG_NAME}, ${NO_SUCH_VARIABLE_HERE:-at home}\"\ninstructions: ${NO_SUCH_VARIABLE_HERE}\nenabled: ${NO_SUCH_VARIABLE_HERE:-false}\ntools:\n  - {name: t, type: http, url: 'https://x', auth: {type: api_key, token: '${CARGO_PKG_NAME}'}}\n";
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "v.yml", &agent("v", more));
    let loaded = load_fleet(dir.path());
    assert_eq!(loaded.problems, []);
    let entry = loaded.fleet.entry("v").unwrap();
    let spec = entry.spec.as_ref().unwrap();
    assert_eq!(spec.description.as_deref(), Some(format!("of {package}, at home").as_str()));
    assert_eq!(spec.instructions.as_deref(), Some("${NO_SUCH_VARIABLE_HERE}"));
    assert!(!spec.enabled);
    assert_eq!(&*spec.tools[0].auth.as_ref().unwrap().token, "${CARGO_PKG_NAME}");
    assert_eq!(loaded.warnings.len(), 1);
    assert!(entry.warnings[0].contains("`NO_SUCH_VARIABLE_HERE` is not set"), "{:?}", entry.warnings);
}

#[test]
fn one_version_is_one_content_whatever_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let load = |variable: &str| {
        write(dir.path(), "x.yml", &agent("x", &format!("description: \"${{{variable}:-at home}}\"\n")));
        let fleet = load_fleet(dir.path()).fleet;
        assert!(!fleet.entry("x").unwrap().has_unset_variables, "it has a default");
        version(&fleet, "x").unwrap()
    };
    assert_eq!(load("NO_SUCH_VARIABLE_HERE"), load("NOR_THIS_ONE"));
    assert_ne!(load("NO_SUCH_VARIABLE_HERE"), load("CARGO_PKG_NAME"), "the value differs, so the version does");
    write(dir.path(), "x.yml", &agent("x", "description: ${NO_SUCH_VARIABLE_HERE}\n"));
    assert!(load_fleet(dir.path()).fleet.entry("x").unwrap().has_unset_variables);
    let token = "tools:\n  - {name: t, type: http, url: 'https://x', auth: {type: api_key, token: '${NO_SUCH_VARIABLE_HERE}'}}\n";
    write(dir.path(), "x.yml", &agent("x", token));
    let entry = load_fleet(dir.path()).fleet.entry("x").cloned().unwrap();
    assert!(!entry.has_unset_variables && entry.warnings.len() == 1, "tokens are read where they are used: {entry:?}");
}

#[test]
fn messages_across_files_quote_variables_and_not_their_values() {
    let team = |with: &str| format!("collaborative_config:\n  preferred_collaborators: [{with}]\n");
    let collaborative = |name: &str, with: &str| agent(name, &team(with)).replace("autonomous", "collaborative");
    let dir = tempfile::tempdir().unwrap();
    // Cargo sets these for every test it runs, to `agentry-config` and to the licence.
    write(dir.path(), "a.yml", &collaborative("${CARGO_PKG_NAME}", "second, '${CARGO_PKG_LICENSE}'"));
    write(dir.path(), "b.yml", &collaborative("second", "agentry-confi, '${CARGO_PKG_NAME}'"));
    write(dir.path(), "c.yml", &agent("${CARGO_PKG_NAME}", ""));
    write(dir.path(), "d.yml", &agent("${CARGO_PKG_LICENSE}", "colour: red\n"));
    let loaded = load_fleet(dir.path());
    let entries = loaded.fleet.iter();
    let told =
        entries.flat_map(|(_, entry)| entry.error.iter().cloned().chain(entry.warnings.iter().map(|w| (**w).into())));
    let told: Vec<std::sync::Arc<str>> = told.collect();
    let found = || loaded.problems.iter().chain(&loaded.warnings).map(ToString::to_string);
    for text in found().chain(told.iter().map(ToString::to_string)) {
        let text = text.replace("agentry-confi,", "");
        for name in ["CARGO_PKG_NAME", "CARGO_PKG_LICENSE"] {
            assert!(!text.contains(&std::env::var(name).unwrap()), "{text}");
        }
    }
    for expected in [
        "two files are called `${CARGO_PKG_NAME}`",
        "`${CARGO_PKG_NAME}` reaches itself through its collaborators",
        "${CARGO_PKG_NAME} → second → ${CARGO_PKG_NAME}",
        "collaborator `${CARGO_PKG_LICENSE}` is not in the fleet",
    ] {
        assert!(found().any(|text| text.contains(expected)), "{expected}: {:?}", loaded.problems);
    }
    assert!(loaded.fleet.entry("d").unwrap().error.is_some(), "a bad file is not listed by a variable's value");
}

#[test]
fn a_text_of_somebody_else_is_checked_without_the_environment() {
    let says = |text: &str| validate_text("x.yml", text).iter().map(ToString::to_string).collect::<Vec<String>>();
    for key in ["execution_mode", "enabled", "name", "system_prompt", "description", "colour", "tools", "budget"] {
        for written in ["${V}", "\"${V}\"", "${V:-x}", "[${V}]"] {
            let base: String =
                agent("x", "").lines().filter(|line| !line.starts_with(key)).map(|l| format!("{l}\n")).collect();
            let with = |name: &str| format!("{base}{key}: {}\n", written.replace('V', name));
            // One is set by Cargo, the other is not; both names are equally long.
            let (set, unset) = (says(&with("CARGO_PKG_NAME")), says(&with("CARGO_PKG_NONE")));
            let unset: Vec<String> =
                unset.iter().map(|text| text.replace("CARGO_PKG_NONE", "CARGO_PKG_NAME")).collect();
            assert_eq!(set, unset, "{key}: {written}");
            assert!(set.iter().all(|text| !text.contains("agentry-config")), "{set:?}");
        }
    }
}

#[test]
fn a_version_is_about_meaning_and_not_about_layout() {
    let dir = tempfile::tempdir().unwrap();
    let of = |text: &str| {
        write(dir.path(), "x.yml", text);
        version(&load_fleet(dir.path()).fleet, "x").unwrap()
    };
    let first = of(&agent("x", "tags: [a, b]\n"));
    assert_eq!(first.len(), 12);
    assert_eq!(first, of(&format!("# a comment\ntags:\n  - a\n  - 'b'\n{}", agent("x", ""))));
    assert_ne!(first, of(&agent("x", "tags: [b, a]\n")));
}

#[test]
fn the_shipped_fleet_is_good_and_priced() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../agents");
    let (problems, checked) = validate_paths(&[&dir]);
    assert_eq!(problems, []);
    assert!(checked >= 9, "{checked}");
    let fleet = load_fleet(&dir).fleet;
    let prices = PriceTable::builtin();
    for (name, entry) in fleet.iter() {
        let spec = entry.spec.as_ref().unwrap();
        for target in std::iter::once(&spec.llm.target).chain(&spec.llm.fallback) {
            let price = prices.price(target.provider, &target.model, Timestamp(1_795_000_000_000_000));
            let free = target.provider == ProviderKind::Simulated;
            assert!(free || price.is_some(), "{name} is unpriced");
        }
        let text = fs::read_to_string(&*entry.file).unwrap();
        assert!(text.starts_with("# yaml-language-server: $schema=../schema/agent.schema.json\n"), "{name}");
    }
    for mode in ExecutionMode::ALL {
        assert!(fleet.iter().any(|(_, entry)| entry.spec.as_ref().unwrap().mode == mode), "no agent is {mode}");
    }
}

#[test]
fn a_directory_that_is_not_there_says_so() {
    let loaded = load_fleet(Path::new("no/such/directory"));
    assert!(loaded.fleet.is_empty());
    assert!(loaded.problems[0].to_string().contains("there is no such directory"), "{}", loaded.problems[0]);
}

#[test]
fn oversized_and_binary_files_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "big.yml", &agent("big", &format!("description: \"{}\"\n", "x".repeat(1 << 20))));
    let problems = load_fleet(dir.path()).problems;
    assert_eq!(problems.len(), 1);
    assert!(problems[0].message.contains("larger than 1 MiB"), "{}", problems[0]);
    let bomb = format!("{}a: &a [x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n", agent("bomb", ""));
    let bomb = ('c'..='z').fold((bomb, 'b'), |(text, last), next| {
        (format!("{text}{next}: &{next} [{}]\n", vec![format!("*{last}"); 9].join(",")), next)
    });
    let problems = validate_text("bomb.yml", &bomb.0);
    assert!(problems[0].message.contains("more than 100000 values"), "{}", problems[0]);
}

/// Waits until the fleet fulfils a condition; panics if it never does.
async fn until(handle: &FleetHandle, wanted: impl Fn(&Fleet) -> bool) {
    let mut changes = handle.changes();
    let wait = async {
        while !wanted(&handle.current()) {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the change was not seen");
}

#[tokio::test]
async fn a_watcher_sees_changes_new_files_swaps_and_deletions() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "one.yml", &agent("one", ""));
    let handle = FleetHandle::new(load_fleet(dir.path()).fleet);
    let before = version(&handle.current(), "one");
    let watcher = FleetWatcher::start(dir.path(), handle.clone()).unwrap();
    write(dir.path(), "one.yml", &agent("one", "description: changed\n"));
    until(&handle, |fleet| version(fleet, "one") != before).await;
    let good = version(&handle.current(), "one");
    write(dir.path(), "one.yml", "name: one\nbroken");
    until(&handle, |fleet| fleet.entry("one").is_some_and(|entry| entry.error.is_some())).await;
    assert_eq!(version(&handle.current(), "one"), good);
    fs::create_dir(dir.path().join("more")).unwrap();
    write(dir.path(), "more/two.yml", &agent("two", ""));
    until(&handle, |fleet| fleet.entry("two").is_some()).await;
    fs::remove_file(dir.path().join("one.yml")).unwrap();
    until(&handle, |fleet| fleet.entry("one").is_none()).await;
    drop(watcher);
}

#[cfg(unix)]
#[tokio::test]
async fn a_watcher_follows_a_mounted_configuration_that_is_swapped() {
    let dir = tempfile::tempdir().unwrap();
    for (state, more) in [("..1", ""), ("..2", "description: changed\n")] {
        fs::create_dir(dir.path().join(state)).unwrap();
        write(dir.path(), &format!("{state}/one.yml"), &agent("one", more));
    }
    std::os::unix::fs::symlink("..1", dir.path().join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/one.yml", dir.path().join("one.yml")).unwrap();
    let handle = FleetHandle::new(load_fleet(dir.path()).fleet);
    let before = version(&handle.current(), "one");
    let _watcher = FleetWatcher::start(dir.path(), handle.clone()).unwrap();
    std::os::unix::fs::symlink("..2", dir.path().join("..data_tmp")).unwrap();
    fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
    until(&handle, |fleet| version(fleet, "one") != before).await;
}

#[tokio::test]
async fn a_directory_that_goes_away_leaves_the_fleet_and_is_watched_again_when_it_is_back() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("agents");
    fs::create_dir(&dir).unwrap();
    write(&dir, "one.yml", &agent("one", ""));
    let handle = FleetHandle::new(load_fleet(&dir).fleet);
    let _watcher = FleetWatcher::start(&dir, handle.clone()).unwrap();
    fs::rename(&dir, parent.path().join("away")).unwrap();
    fs::create_dir(parent.path().join("next")).unwrap();
    write(&parent.path().join("next"), "two.yml", &agent("two", ""));
    fs::rename(parent.path().join("next"), &dir).unwrap();
    until(&handle, |fleet| fleet.entry("two").is_some() && fleet.entry("one").is_none()).await;
    write(&dir, "three.yml", &agent("three", ""));
    until(&handle, |fleet| fleet.entry("three").is_some()).await;
}
