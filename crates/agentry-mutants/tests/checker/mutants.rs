//! Each mutant is caught by the scenario that should catch it, and the correct platform by none.

use crate::suite::{BROKEN, run};

/// Asserts that the mutant breaks the invariant, and that nothing else in the verdict outweighs it.
fn caught(mutant: &str, args: &[&str], invariant: &str) {
    let verdict = run(Some(mutant), args);
    assert_eq!(verdict.holds(invariant), Some(false), "{mutant} was not caught: {}", verdict.safety());
    assert_eq!(verdict.exit, BROKEN, "{}", verdict.safety());
}

#[test]
fn acknowledging_before_the_commit_loses_tasks() {
    caught("ack-before-commit", &["3.2"], "I2");
}

#[test]
fn without_deduplication_a_repeated_event_is_answered_twice() {
    caught("no-dedupe", &["6.1"], "I9");
}

#[test]
fn a_dropped_outbox_leaves_questions_unanswered() {
    caught("drop-outbox", &["6.1"], "I2");
}

#[test]
fn floating_money_differs_by_a_billionth() {
    caught("float-cost", &["5.2"], "I6");
}

#[test]
fn an_interval_from_the_last_run_leaves_its_slots() {
    caught("interval-from-last-run", &["6.2"], "I4");
}

#[test]
fn a_cache_that_hears_of_no_write_shows_old_sessions() {
    caught("unversioned-cache", &["2.1"], "I7");
}

#[test]
fn without_fencing_a_frozen_worker_goes_on_with_what_it_lost() {
    caught("no-fencing", &["3.2", "--engine", "cluster", "--fault", "worker-frozen"], "I8");
}

#[test]
fn what_is_not_broken_is_not_called_broken() {
    let verdict = run(None, &["2.1", "3.2", "5.2", "6.1", "6.2"]);
    for invariant in ["I1", "I2", "I3", "I4", "I6", "I7", "I9"] {
        assert_eq!(verdict.holds(invariant), Some(true), "{invariant}: {}", verdict.safety());
    }
    assert_ne!(verdict.exit, BROKEN);
    let verdict = run(None, &["3.2", "--engine", "cluster", "--fault", "worker-frozen"]);
    for invariant in ["I1", "I2", "I3", "I8", "I9"] {
        assert_eq!(verdict.holds(invariant), Some(true), "{invariant}: {}", verdict.safety());
    }
}

#[test]
fn an_unknown_mutant_is_wrong_use() {
    let folder = tempfile::tempdir().unwrap();
    let output = crate::suite::bench(Some("no-such"), &["3.2"], &folder).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ack-before-commit"));
}
