//! The contract of the port as functions over any backend: `contract_tests!` makes a test of each.
//!
//! A function panics when the backend violates it. Time is a parameter: tests start at [`T0`] and state how it passes.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a rule panics when it is broken")]

pub mod access;
pub mod advance;
pub mod budgets;
pub mod build;
pub mod clarifications;
pub mod deployment;
pub mod money;
pub mod outbox;
pub mod queue;
pub mod recovery;
pub mod retention;
pub mod schedules;
pub mod sessions;

pub use build::T0;

/// Makes a test of every function: `contract_tests!(open)`, where `open()` returns `(guard, Arc<dyn StateStore>)`; the
/// guard is kept until the test ends and implements [`build::AgeHeartbeats`].
#[macro_export]
macro_rules! contract_tests {
    ($open:expr) => {
        $crate::contract_tests!(@ $open,
            queue: accepted_tasks_are_returned_as_submitted, queue: a_key_returns_the_same_task_for_a_day,
            queue: each_task_is_claimed_by_one_of_many, queue: next_tasks_are_claimed_by_priority_and_age,
            queue: delayed_tasks_are_claimed_when_due, queue: tasks_due_later_are_left_to_woken_workers,
            queue: pages_join_without_gaps, queue: counts_follow_the_tasks;
            advance: stale_leases_are_fenced, advance: a_task_ends_once, advance: a_task_cannot_end_as_running,
            advance: a_retry_is_a_later_attempt, advance: a_release_keeps_the_attempt_and_its_time,
            advance: journal_entries_are_numbered_without_gaps, advance: cancel_ends_idle_tasks_and_asks_owners;
            recovery: tasks_of_deregistered_workers_are_requeued_at_once, recovery: versions_and_statuses_are_stored;
            sessions: an_inbox_is_worked_in_order_by_one, sessions: messages_have_no_gaps_and_stale_fences_write_nothing,
            sessions: later_tasks_wait_behind_the_first, sessions: sessions_are_listed_and_deleted;
            clarifications: the_first_answer_wins_and_wakes, clarifications: an_answer_before_the_wait_is_found,
            clarifications: the_end_withdraws_questions,
            clarifications: the_end_of_a_question_is_posted_where_it_was_asked,
            clarifications: questions_are_found_by_their_thread;
            schedules: a_slot_is_decided_once, schedules: the_overlap_policy_applies, schedules: changes_keep_decided_slots,
            schedules: a_backfill_fires_unfired_slots_once,
            schedules: changes_of_schedules_are_found_by_revision, schedules: schedules_are_listed_in_pages,
            schedules: an_event_is_accepted_once;
            outbox: messages_are_claimed_once_and_settled, outbox: a_claim_whose_answer_was_lost_comes_again,
            outbox: a_dead_message_can_be_edited_and_sent_again, outbox: a_dead_task_can_be_replayed_once;
            retention: ended_tasks_are_deleted_and_open_ones_stay, retention: the_ledger_has_its_own_age_limit,
            retention: idle_sessions_are_deleted;
            budgets: a_hundred_at_once_stay_within_the_cap, budgets: a_ledger_row_takes_the_place_of_its_reservation,
            budgets: a_released_reservation_is_free, budgets: a_new_day_has_its_cap, budgets: a_dead_worker_holds_no_reservation;
            access: keys_are_stored_and_found, access: revoked_and_expired_keys_count_as_none,
            access: browser_sessions_are_stored_until_they_end, access: browser_sessions_end_with_their_key,
            access: browser_sessions_of_a_key_are_bounded,
            access: the_audit_log_is_paged_and_bounded, access: recent_tasks_are_the_newest;
            deployment: an_old_version_stays_old, deployment: a_removed_agent_keeps_its_last_version,
            deployment: an_event_waits_for_the_fleet_that_it_was_looked_up_in,
            deployment: an_event_is_stored_with_its_message, deployment: a_claim_returns_the_version;
            money: sums_are_sums_of_rows, money: a_call_is_counted_once, money: calls_are_listed_in_pages;
        );
        $crate::contract_tests!(@aged $open,
            recovery: tasks_of_dead_workers_are_requeued, recovery: a_late_judge_declares_nobody_dead,
            recovery: after_a_stall_live_workers_have_time, recovery: a_judge_never_declares_itself_dead,
            recovery: claims_of_a_dead_worker_are_released;
        );
    };
    (@ $open:expr, $($($file:ident: $rule:ident),+;)+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                let (_guard, store) = $open();
                $crate::contract::$file::$rule(store).await;
            }
        )+)+
    };
    (@aged $open:expr, $($($file:ident: $rule:ident),+;)+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                let (guard, store) = $open();
                $crate::contract::$file::$rule(store, &guard).await;
            }
        )+)+
    };
}
