//! Conversations: one writer, in order.

use agentry_core::id::TaskId;
use agentry_core::session::SessionId;
use agentry_core::task::TaskStatus;

use crate::fleet::name;
use crate::records::Records;
use crate::stage::Stage;

pub async fn are_linear(stage: &Stage, records: &Records) {
    for key in ["s0", "s1"] {
        let id = SessionId::new(&name("chat"), key);
        let messages = stage.store.messages(&id, 0, 1_000).await.expect("messages");
        for (index, message) in messages.iter().enumerate() {
            assert_eq!(message.number, index as u64 + 1, "[sessions] no gaps and no forks in {id}");
        }
        // Each turn is a user's message and an answer; the turns stand in the order of acceptance.
        let turns: Vec<TaskId> = messages.chunks(2).map(|turn| turn[0].task).collect();
        let completed = |task: TaskId| {
            records.tasks.iter().any(|record| record.task.id == task && record.status == TaskStatus::Completed)
        };
        let accepted = stage.accepted();
        let of_session = accepted.iter().filter(|task| task.session.as_ref() == Some(&id));
        let expected: Vec<TaskId> = of_session.map(|task| task.id).filter(|task| completed(*task)).collect();
        assert_eq!(turns, expected, "[sessions] {id} holds its completed turns in order");
        for turn in messages.chunks(2) {
            assert_eq!(turn[0].task, turn[1].task, "[sessions] a turn of {id} is one task's");
            assert_eq!(turn[1].message.content(), format!("echo: {}", turn[0].message.content()), "[sessions] {id}");
        }
    }
}
