//! Conversations of turns that consist of blocks, as in Anthropic's and Bedrock's protocols.

use std::borrow::Cow;
use std::collections::HashSet;

use super::super::prompt::{Message, Role};

/// A content block, reduced to the parts that the simulator uses.
#[derive(Debug)]
pub(super) enum Block<'a> {
    Text(Cow<'a, str>),
    Use(Cow<'a, str>),
    /// The result of the call with this id, and its text.
    Result(Cow<'a, str>, Cow<'a, str>),
    Other,
}

#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) role: Role,
    pub(super) blocks: Vec<Block<'a>>,
}

/// A mismatch between tool calls and their results.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PairingError {
    /// Calls in this turn have no results in the next one.
    MissingResult(usize, Vec<String>),
    /// Results in this turn have no calls in the turn before.
    MissingCall(usize, Vec<String>),
}

pub(super) fn find_unpaired(turns: &[Turn<'_>]) -> Option<PairingError> {
    for (index, turn) in turns.iter().enumerate() {
        let uses = index.checked_sub(1).map(|before| turns[before].uses()).unwrap_or_default();
        let strangers: Vec<String> =
            turn.results().into_iter().filter(|id| !uses.contains(id)).map(str::to_owned).collect();
        if !strangers.is_empty() {
            return Some(PairingError::MissingCall(index, strangers));
        }
        let results = turns.get(index + 1).map(Turn::results).unwrap_or_default();
        let open: Vec<String> = turn.uses().into_iter().filter(|id| !results.contains(id)).map(str::to_owned).collect();
        if !open.is_empty() {
            return Some(PairingError::MissingResult(index, open));
        }
    }
    None
}

/// An id that occurs twice.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Repeated {
    /// The id of two calls.
    Use(String),
    /// The turn in which two results have this id.
    Result(usize, String),
}

/// Finds the first id of two calls of the conversation, or of two results of one turn.
pub(super) fn first_repeated(turns: &[Turn<'_>]) -> Option<Repeated> {
    let mut uses = HashSet::new();
    turns.iter().enumerate().find_map(|(index, turn)| {
        let mut results = HashSet::new();
        let used =
            turn.uses().into_iter().find(|id| !uses.insert((*id).to_owned())).map(|id| Repeated::Use(id.to_owned()));
        let mut repeated = || turn.results().into_iter().find(|id| !results.insert(*id));
        used.or_else(|| repeated().map(|id| Repeated::Result(index, id.to_owned())))
    })
}

/// Returns true for ids of letters, digits, underscores and hyphens.
pub(super) fn is_plain_id(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

impl<'a> Turn<'a> {
    pub(super) fn uses(&self) -> Vec<&str> {
        self.blocks
            .iter()
            .filter_map(|block| if let Block::Use(id) = block { Some(id.as_ref()) } else { None })
            .collect()
    }

    pub(super) fn results(&self) -> Vec<&str> {
        let blocks = self.blocks.iter();
        blocks.filter_map(|block| if let Block::Result(id, _) = block { Some(id.as_ref()) } else { None }).collect()
    }

    /// Appends the messages of the turn: each result is one, and so is the text between them.
    pub(super) fn messages(self, into: &mut Vec<Message<'a>>) {
        let mut text: Option<Cow<'a, str>> = None;
        let role = self.role;
        let flush = |text: Option<Cow<'a, str>>, into: &mut Vec<Message<'a>>| {
            into.extend(text.map(|text| Message { role, text }));
        };
        let is_empty = self.blocks.is_empty();
        let mut has_result = false;
        for block in self.blocks {
            match block {
                Block::Text(more) => {
                    text = Some(match text {
                        None => more,
                        Some(text) => Cow::Owned(text.into_owned() + &more),
                    });
                }
                Block::Result(_, result) => {
                    has_result = true;
                    flush(text.take(), into);
                    into.push(Message { role: Role::Tool, text: result });
                }
                Block::Use(_) | Block::Other => {}
            }
        }
        // A turn with only calls or pictures still counts as a message.
        let silent = text.is_none() && !has_result && !is_empty;
        flush(text.or(silent.then_some(Cow::Borrowed(""))), into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn<'a>(role: Role, blocks: Vec<Block<'a>>) -> Turn<'a> {
        Turn { role, blocks }
    }

    fn call(id: &str) -> Block<'_> {
        Block::Use(id.into())
    }

    fn result(id: &str) -> Block<'_> {
        Block::Result(id.into(), "r".into())
    }

    #[test]
    fn calls_and_results_belong_together() {
        let pair = |calls: Vec<Block<'static>>, results| {
            find_unpaired(&[turn(Role::Assistant, calls), turn(Role::User, results)])
        };
        assert_eq!(pair(vec![call("a"), call("b")], vec![result("b"), result("a")]), None);
        let missing = pair(vec![call("a"), call("b")], vec![result("b")]);
        assert_eq!(missing, Some(PairingError::MissingResult(0, vec!["a".into()])));
        assert_eq!(pair(vec![], vec![result("x")]), Some(PairingError::MissingCall(1, vec!["x".into()])));
        assert_eq!(
            find_unpaired(&[turn(Role::Assistant, vec![call("a")])]),
            Some(PairingError::MissingResult(0, vec!["a".into()]))
        );
    }

    #[test]
    fn a_turn_becomes_messages_in_order() {
        let mut messages = Vec::new();
        let blocks = vec![result("a"), Block::Text("then ".into()), Block::Text("this".into()), Block::Other];
        turn(Role::User, blocks).messages(&mut messages);
        turn(Role::Assistant, vec![call("b")]).messages(&mut messages);
        let seen: Vec<_> = messages.iter().map(|message| (message.role, message.text.as_ref())).collect();
        assert_eq!(seen, [(Role::Tool, "r"), (Role::User, "then this"), (Role::Assistant, "")]);
    }
}
