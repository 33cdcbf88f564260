//! Ends and journals of tasks.

use std::collections::HashMap;

use agentry_core::id::TaskId;
use agentry_core::task::TaskRecord;

use crate::records::Records;
use crate::stage::Stage;

pub fn every_accepted_task_ended_once(stage: &Stage, records: &Records) {
    let by_id: HashMap<TaskId, &TaskRecord> = records.tasks.iter().map(|record| (record.task.id, record)).collect();
    assert_eq!(by_id.len(), records.tasks.len(), "[ends] a task is listed once");
    for task in stage.accepted() {
        let record = by_id.get(&task.id).unwrap_or_else(|| panic!("[ends] accepted task {} is gone", task.id));
        assert!(record.status.is_terminal(), "[ends] {} is {}", task.id, record.status);
        let outcome = record.outcome.as_ref().expect("an ended task has an outcome");
        assert_eq!(outcome.status, record.status, "[ends] task {}", task.id);
        assert!(record.finished_at.is_some() && record.owner.is_none(), "[ends] task {}", task.id);
    }
}

pub fn journals_have_no_gaps(records: &Records) {
    for record in &records.tasks {
        let numbers = records.journal(record.task.id).iter().map(|entry| entry.seq);
        let gapless = numbers.zip(1..).all(|(found, expected)| found == expected);
        assert!(gapless, "[journal] the journal of {} has gaps", record.task.id);
    }
}
