//! Model calls: a received answer is not bought again.

use std::collections::{HashMap, HashSet};

use agentry_core::id::CallId;
use agentry_core::journal::JournalBody;

use crate::records::Records;
use crate::stage::Stage;

/// Within one attempt, the answer to one turn of one scope comes from one call, however often it was written.
pub fn no_turn_was_bought_twice(stage: &Stage, records: &Records) {
    let answered: HashSet<CallId> = stage.model.answered().into_iter().collect();
    for record in &records.tasks {
        let mut turns: HashMap<(u32, &str, u32), HashSet<CallId>> = HashMap::new();
        for entry in records.journal(record.task.id) {
            if let JournalBody::ModelCompleted { call, turn, .. } = entry.body {
                assert!(answered.contains(&call), "[calls] the journal knows an answer that the model never gave");
                turns.entry((entry.attempt, entry.scope.as_str(), turn)).or_default().insert(call);
            }
        }
        for (turn, calls) in turns {
            assert_eq!(calls.len(), 1, "[calls] task {}: {turn:?} was bought {} times", record.task.id, calls.len());
        }
    }
}
