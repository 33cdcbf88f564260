//! The version of an agent that runs when the files of processes differ.

use std::sync::Arc;
use std::time::Duration;

use agentry_config::FleetHandle;
use agentry_core::agent::{AgentName, AgentSpec};
use agentry_core::fleet::Fleet;
use agentry_core::task::{Submission, TaskSource};
use agentry_intake::{Authority, Deployment, Order, SubmitResult, UnavailableAgent};
use agentry_store::FleetChanges;
use agentry_testkit::{FaultyStore, Outage, SeededRng, StoreFaults};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::stage::{Stage, Still, files, name, spec};

fn v(version: &str) -> AgentSpec {
    spec("support", version, "ticket.created")
}

#[tokio::test]
async fn a_process_with_an_old_a_bad_or_no_file_runs_what_the_deployment_runs() {
    let stage = Stage::new();
    let first = stage.process(files(&[v("v1")], &[])).await;
    first.save(files(&[v("v2")], &[])).await;
    for lagging in [files(&[v("v1")], &[]), files(&[], &["support"]), files(&[], &[])] {
        let process = stage.process(lagging).await;
        assert_eq!(process.version("support").as_deref(), Some("v2"));
        assert_eq!(process.deployment.differences().len(), 1, "and it is told of");
        assert!(process.intake.live("support").is_ok());
    }
    assert_eq!(stage.store.fleet_revision().await.unwrap(), 2, "none of them changed anything");
    first.deployment.refresh().await.unwrap();
    assert_eq!(first.version("support").as_deref(), Some("v2"));
    assert!(first.deployment.differences().is_empty());
}

#[tokio::test]
async fn a_newer_file_anywhere_is_the_version_everywhere() {
    let stage = Stage::new();
    let (one, two) = (stage.process(files(&[v("v1")], &[])).await, stage.process(files(&[v("v1")], &[])).await);
    two.save(files(&[v("v2"), spec("new", "n1", "x")], &[])).await;
    one.deployment.refresh().await.unwrap();
    assert_eq!(one.version("support").as_deref(), Some("v2"));
    assert_eq!(one.version("new").as_deref(), Some("n1"), "an agent that only the other has a file of");
    let report = &one.deployment.differences()[..];
    assert_eq!(report.iter().map(|report| report.agent.as_str()).collect::<Vec<_>>(), ["new", "support"]);
}

#[tokio::test]
async fn a_rollback_is_a_change_and_a_lagging_process_does_not_undo_it() {
    let stage = Stage::new();
    let (one, lagging) = (stage.process(files(&[v("v1")], &[])).await, stage.process(files(&[v("v1")], &[])).await);
    one.save(files(&[v("v2")], &[])).await;
    one.save(files(&[v("v1")], &[])).await;
    assert_eq!(one.version("support").as_deref(), Some("v1"), "somebody put the old file back");
    // The other process sees the first change only now.
    lagging.save(files(&[v("v3")], &[])).await;
    one.save(files(&[v("v4")], &[])).await;
    lagging.save(files(&[v("v2")], &[])).await;
    one.deployment.refresh().await.unwrap();
    lagging.deployment.refresh().await.unwrap();
    assert_eq!(one.version("support").as_deref(), Some("v4"));
    assert_eq!(lagging.version("support").as_deref(), Some("v4"));
}

#[tokio::test]
async fn an_agent_leaves_when_it_is_removed_and_not_with_a_file() {
    let stage = Stage::new();
    let (one, two) = (stage.process(files(&[v("v1")], &[])).await, stage.process(files(&[v("v1")], &[])).await);
    one.save(files(&[], &[])).await;
    assert_eq!(one.version("support").as_deref(), Some("v1"));
    assert_eq!(two.deployment.remove(vec![name("support")]).await.unwrap(), [name("support")]);
    one.deployment.refresh().await.unwrap();
    for process in [&one, &two] {
        assert!(matches!(process.intake.live("support"), Err(UnavailableAgent::Removed { .. })));
        let last = process.deployment.removed(&name("support")).expect("its last version");
        assert_eq!(&*last.version, "v1", "for what was accepted before");
    }
    assert_eq!(two.deployment.remove(vec![name("support")]).await.unwrap(), [] as [AgentName; 0]);
    let late = stage.process(files(&[v("v1")], &[])).await;
    assert_eq!(late.version("support"), None, "a file that was left behind does not bring it back");
    assert!(late.deployment.activate(&name("support"), Some("v1")).await.unwrap().is_some());
    assert_eq!(late.version("support").as_deref(), Some("v1"));
    assert_eq!(late.deployment.activate(&name("support"), Some("v9")).await.unwrap(), None);
}

#[tokio::test]
async fn a_file_whose_variables_are_not_all_set_replaces_nothing_that_is_whole() {
    let stage = Stage::new();
    let unset = |version: &str| {
        let mut entry = files(&[v(version)], &[]).entry("support").cloned().unwrap();
        entry.has_unset_variables = true;
        entry.warnings = vec!["agents/x.yml:3: the environment variable `MODEL` is not set".into()];
        Fleet::new([(name("support"), entry)].into())
    };
    let alone = stage.process(unset("${MODEL}")).await;
    assert_eq!(alone.version("support").as_deref(), Some("${MODEL}"), "better than no agent at all");
    let whole = stage.process(files(&[v("gpt")], &[])).await;
    let bare = stage.process(unset("${MODEL} later")).await;
    for process in [&alone, &whole, &bare] {
        process.deployment.refresh().await.unwrap();
        assert_eq!(process.version("support").as_deref(), Some("gpt"));
    }
    let differences = bare.deployment.differences();
    assert!(differences[0].error.as_ref().unwrap().contains("`MODEL` is not set"), "{differences:?}");
}

#[tokio::test]
async fn a_bad_file_of_an_agent_that_nobody_has_is_reported() {
    let stage = Stage::new();
    let process = stage.process(files(&[v("v1")], &["brandnew"])).await;
    let differences = process.deployment.differences();
    let [report] = &differences[..] else { panic!("{differences:?}") };
    assert_eq!((report.agent.as_str(), report.error.as_deref()), ("brandnew", Some("line 3: unknown key")));
}

#[tokio::test]
async fn on_one_machine_a_removed_agent_stays_removed_until_its_file_changes() {
    let stage = Stage::new();
    let folder = |files| stage.join(files, Authority::Folder);
    let both = || files(&[v("v1"), spec("other", "o1", "x")], &[]);
    let first = folder(both()).await;
    assert_eq!(first.deployment.remove(vec![name("support")]).await.unwrap(), [name("support")]);
    first.save(files(&[v("v1"), spec("other", "o2", "x")], &[])).await;
    assert_eq!(first.version("support"), None, "the file of another agent was changed");
    drop(first);
    let again = folder(both()).await;
    assert_eq!(again.version("support"), None, "a restart is no change");
    again.save(files(&[v("v2"), spec("other", "o1", "x")], &[])).await;
    assert_eq!(again.version("support").as_deref(), Some("v2"));
    again.deployment.remove(vec![name("support")]).await.unwrap();
    again.save(files(&[spec("other", "o1", "x")], &[])).await;
    again.save(files(&[v("v2"), spec("other", "o1", "x")], &[])).await;
    assert_eq!(again.version("support").as_deref(), Some("v2"), "the file was deleted and put back");
}

#[tokio::test]
async fn where_one_folder_is_the_deployment_it_counts() {
    let stage = Stage::new();
    let folder = |files| stage.join(files, Authority::Folder);
    let first = folder(files(&[v("v1"), spec("other", "o1", "x")], &[])).await;
    first.save(files(&[v("v2"), spec("other", "o1", "x")], &[])).await;
    drop(first);
    let again = folder(files(&[v("v1"), spec("other", "o1", "x")], &[])).await;
    assert_eq!(again.version("support").as_deref(), Some("v1"), "an old file that was put back while it was stopped");
    let broken = folder(files(&[v("v1")], &["othr"])).await;
    assert_eq!(broken.version("other").as_deref(), Some("o1"), "the bad file may be its file");
    let empty = folder(files(&[], &[])).await;
    assert_eq!(empty.version("support").as_deref(), Some("v1"), "more likely the wrong folder");
    let gone = folder(files(&[v("v1")], &[])).await;
    assert_eq!((gone.version("support").as_deref(), gone.version("other")), (Some("v1"), None));
}

#[tokio::test(start_paused = true)]
async fn on_one_machine_a_start_does_not_wait_for_the_store_and_writes_again_after_a_failure() {
    let stage = Stage::new();
    let faulty = FaultyStore::new(Arc::clone(&stage.store) as _, SeededRng::new(1), StoreFaults::default());
    let handle = FleetHandle::new(files(&[v("v1")], &[]));
    let (bus, clock) = (Arc::clone(&stage.bus), Arc::new(Still));
    faulty.begin_outage(Outage::Refusing, Duration::from_secs(3));
    let (store, known) = (Arc::clone(&faulty) as _, FleetChanges::default());
    let deployment = Arc::new(Deployment::join(store, bus, clock, handle, Authority::Folder, known).await.unwrap());
    assert!(deployment.fleet().current().live(&name("support")).is_some());
    let (end, following) = (CancellationToken::new(), Arc::clone(&deployment));
    let follow = tokio::spawn({
        let end = end.clone();
        async move { following.follow(end).await }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stage.store.fleet_since(0).await.unwrap(), FleetChanges::default());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let kept = stage.store.fleet_since(0).await.unwrap();
    assert_eq!((kept.rows.len(), kept.revision), (1, 1));
    assert_eq!(deployment.fleet().current().revision(), 1);
    end.cancel();
    follow.await.unwrap();
}

#[tokio::test]
async fn the_revision_of_a_folder_is_that_of_the_store() {
    let stage = Stage::new();
    let folder = |files| stage.start(files, Authority::Folder);
    let steps = [
        files(&[v("v1"), spec("other", "o1", "x")], &[]),
        files(&[v("v2"), spec("other", "o1", "x")], &[]),
        files(&[v("v3")], &[]),
        files(&[v("v3"), spec("third", "t1", "x")], &[]),
        files(&[v("v3"), spec("third", "t1", "x")], &[]),
    ];
    for (step, files) in steps.into_iter().enumerate() {
        let process = folder(files).await;
        let used = process.deployment.fleet().current().revision();
        process.deployment.refresh().await.unwrap();
        assert_eq!(used, stage.store.fleet_revision().await.unwrap(), "start {step}");
    }
}

#[tokio::test]
async fn a_process_without_files_loads_all_versions() {
    let stage = Stage::new();
    let specs: Vec<AgentSpec> = (0..100).map(|at| spec(&format!("agent-{at}"), "v1", "x")).collect();
    stage.process(files(&specs, &[])).await;
    assert_eq!(stage.process(files(&[], &[])).await.deployment.fleet().current().len(), 100);
}

#[tokio::test]
async fn work_is_accepted_only_after_the_versions_of_the_folder_are_written() {
    let stage = Stage::new();
    let process = stage.start(files(&[v("v1")], &[]), Authority::Folder).await;
    assert_eq!(stage.store.fleet_revision().await.unwrap(), 0, "not written yet");
    let submission = Submission::new(json!("hi"), TaskSource::Api, process.intake.new_trace());
    let submitted = process.intake.submit(vec![Order { agent: "support".to_owned(), submission }]).await.unwrap();
    assert!(matches!(submitted[0], Ok(SubmitResult::New(_))));
    assert!(stage.store.version(&name("support"), "v1").await.unwrap().is_some());
    let other = Stage::new();
    let process = other.start(files(&[v("v1")], &[]), Authority::Folder).await;
    assert_eq!(process.deployment.remove(vec![name("support")]).await.unwrap(), [name("support")]);
}

#[tokio::test]
async fn the_versions_of_a_folder_are_written_at_the_latest_when_the_process_stops() {
    let stage = Stage::new();
    let process = stage.start(files(&[v("v1")], &[]), Authority::Folder).await;
    let end = CancellationToken::new();
    end.cancel();
    process.deployment.follow(end).await;
    assert_eq!(stage.store.fleet_revision().await.unwrap(), 1);
}
