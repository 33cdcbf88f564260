//! Conversations in protocols whose roles must alternate: adjacent messages of one role become one turn.

use agentry_core::chat::Message;

pub(crate) struct Turn<'a> {
    /// True for the model; users and tools are the other side.
    pub is_assistant: bool,
    pub messages: Vec<&'a Message>,
}

pub(crate) fn turns(messages: &[Message]) -> (Vec<&str>, Vec<Turn<'_>>) {
    let (mut system, mut turns) = (Vec::new(), Vec::<Turn<'_>>::new());
    for message in messages {
        let is_assistant = match message {
            Message::System { content } => {
                system.push(content.as_str());
                continue;
            }
            // Providers refuse empty texts.
            Message::Assistant { content, tool_calls } if content.is_empty() && tool_calls.is_empty() => continue,
            Message::Assistant { .. } => true,
            Message::User { .. } | Message::Tool { .. } => false,
        };
        match turns.last_mut().filter(|turn| turn.is_assistant == is_assistant) {
            Some(turn) => turn.messages.push(message),
            None => turns.push(Turn { is_assistant, messages: vec![message] }),
        }
    }
    (system, turns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_role_are_one_turn() {
        let user = |text: &str| Message::User { content: text.into() };
        let messages = [
            Message::System { content: "s".into() },
            user("a"),
            Message::Assistant { content: String::new(), tool_calls: Vec::new() },
            user("b"),
            Message::Assistant { content: "c".into(), tool_calls: Vec::new() },
            Message::Tool { call_id: "1".into(), content: "d".into() },
            Message::Tool { call_id: "2".into(), content: "e".into() },
            user("f"),
        ];
        let (system, turns) = turns(&messages);
        let sizes: Vec<_> = turns.iter().map(|turn| (turn.is_assistant, turn.messages.len())).collect();
        assert_eq!((system, sizes), (vec!["s"], vec![(false, 2), (true, 1), (false, 3)]));
    }
}
