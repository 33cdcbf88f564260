//! All records of tasks in the store, read without faults.

use std::collections::{BTreeMap, HashMap};

use agentry_core::id::{CallId, TaskId};
use agentry_core::journal::{JournalBody, JournalEntry};
use agentry_core::money::LedgerRow;
use agentry_core::task::{TaskRecord, TaskSource};
use agentry_store::{MAX_PAGE, TaskFilter};

use crate::stage::Stage;

pub struct Records {
    /// Every task, also those that slots and events started; the newest first.
    pub tasks: Vec<TaskRecord>,
    journals: HashMap<TaskId, Vec<JournalEntry>>,
    ledgers: HashMap<TaskId, Vec<LedgerRow>>,
}

impl Records {
    pub async fn read(stage: &Stage) -> Self {
        let mut records = Self::read_tasks(stage).await;
        let ids: Vec<TaskId> = records.tasks.iter().map(|record| record.task.id).collect();
        for id in ids {
            records.journals.insert(id, whole_journal(stage, id).await);
            records.ledgers.insert(id, stage.store.ledger(id).await.expect("a ledger"));
        }
        records
    }

    /// Returns the tasks alone: their journals and ledgers are empty.
    pub async fn read_tasks(stage: &Stage) -> Self {
        let mut tasks: Vec<TaskRecord> = Vec::new();
        loop {
            let before = tasks.last().map(|record| record.task.id);
            let page = stage.store.tasks(&TaskFilter::default(), before, 500).await.expect("tasks");
            tasks.extend(page.items);
            if !page.more {
                return Self { tasks, journals: HashMap::new(), ledgers: HashMap::new() };
            }
        }
    }

    pub fn journal(&self, task: TaskId) -> &[JournalEntry] {
        self.journals.get(&task).map_or(&[], Vec::as_slice)
    }

    pub fn ledger(&self, task: TaskId) -> &[LedgerRow] {
        self.ledgers.get(&task).map_or(&[], Vec::as_slice)
    }

    /// Returns the journal of a task in short, for a failure: attempt, kind and scope of each entry.
    pub fn story(&self, task: TaskId) -> String {
        let told = self.journal(task).iter().map(|entry| {
            let body = serde_json::to_value(&entry.body).expect("a body");
            let kind = body["kind"].as_str().unwrap_or("?").to_owned();
            let call = body["call"].as_str().map(|id| format!(" {}", &id[id.len() - 6..])).unwrap_or_default();
            format!("{}:{kind} {}{call}", entry.attempt, entry.scope.as_str())
        });
        told.collect::<Vec<_>>().join(", ")
    }

    /// Returns the story of the task that a model call was made for.
    pub fn story_of(&self, call: CallId) -> String {
        let made = |body: &JournalBody| matches!(body, JournalBody::ModelStarted { call: made, .. } if *made == call);
        let of = self.tasks.iter().find(|record| self.journal(record.task.id).iter().any(|entry| made(&entry.body)));
        of.map_or_else(
            || "in no journal".to_owned(),
            |record| format!("task {} is {}: {}", record.task.id, record.status, self.story(record.task.id)),
        )
    }

    /// Returns the number of tasks that each event started, by event id.
    pub fn heard(&self) -> BTreeMap<String, u32> {
        let mut heard = BTreeMap::new();
        for record in &self.tasks {
            if let TaskSource::Event { id, .. } = &record.task.source {
                *heard.entry(id.clone()).or_default() += 1;
            }
        }
        heard
    }
}

async fn whole_journal(stage: &Stage, task: TaskId) -> Vec<JournalEntry> {
    let mut entries: Vec<JournalEntry> = Vec::new();
    loop {
        let after = entries.last().map_or(0, |entry| entry.seq);
        let page = stage.store.journal(task, after, MAX_PAGE).await.expect("a journal");
        let last = page.len() < MAX_PAGE;
        entries.extend(page);
        if last {
            return entries;
        }
    }
}
