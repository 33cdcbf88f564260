//! Reasoning that comes back in turns of blocks, as in Anthropic's and Bedrock's protocols.

use serde_json::Value;

use super::super::ids::Thought;
use super::super::prefix::Prefix;
use super::super::prompt::Returned;
use super::super::signature::{SignatureCheck, verify};

/// A signed block of reasoning in a turn of the assistant.
#[derive(Debug)]
pub(super) struct SignedBlock<'v> {
    /// Number of the block in its turn.
    pub(super) at: usize,
    pub(super) text: &'v str,
    pub(super) signature: &'v str,
}

/// A turn of the assistant, reduced to its reasoning and its calls.
#[derive(Debug)]
pub(super) struct ThinkingTurn<'v> {
    /// Number of the message.
    pub(super) index: usize,
    /// What the turn stands after.
    pub(super) prefix: Prefix,
    pub(super) blocks: Vec<SignedBlock<'v>>,
    /// Ids of the calls.
    pub(super) calls: Vec<&'v str>,
}

/// What is wrong with reasoning that came back; numbers are those of message and block.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ThinkingFault {
    Altered(usize, usize),
    /// The block stands after something else; the text says after what.
    Moved(usize, usize, &'static str),
    /// A part of the reasoning of the current turn is there and this message's is not.
    Dropped(usize),
}

/// Judges the reasoning of a conversation whose current turn begins after message `open_from`.
pub(super) fn judge(
    model: &str,
    turns: &[ThinkingTurn<'_>],
    open_from: usize,
    checks_prefix: bool,
) -> (Returned, Option<ThinkingFault>) {
    let (mut returned, mut fault) = (Returned::default(), None);
    let mut note = |found| {
        fault.get_or_insert(found);
    };
    let is_partly_there = turns.iter().any(|turn| turn.index > open_from && !turn.blocks.is_empty());
    for turn in turns {
        for block in &turn.blocks {
            match verify(block.signature, model, block.text, turn.prefix) {
                SignatureCheck::Intact => returned.equal += 1,
                SignatureCheck::Moved(what) if checks_prefix => {
                    returned.altered += 1;
                    note(ThinkingFault::Moved(turn.index, block.at, what));
                }
                SignatureCheck::Moved(_) => returned.equal += 1,
                SignatureCheck::Foreign => {}
                SignatureCheck::Altered => {
                    returned.altered += 1;
                    note(ThinkingFault::Altered(turn.index, block.at));
                }
            }
        }
        let is_missing = turn.blocks.is_empty() && turn.calls.iter().any(|id| Thought::before(id, model).is_some());
        returned.missing += u64::from(is_missing);
        if is_missing && is_partly_there && turn.index > open_from {
            note(ThinkingFault::Dropped(turn.index));
        }
    }
    (returned, fault)
}

/// Returns the number of the message that the current turn begins with: the last one of the user with more than results.
pub(super) fn last_question(messages: &[Value], is_result: impl Fn(&Value) -> bool) -> usize {
    let asks = |message: &Value| {
        let is_user = message.get("role").and_then(Value::as_str) == Some("user");
        is_user && message.get("content").and_then(Value::as_array).is_none_or(|blocks| !blocks.iter().all(&is_result))
    };
    messages.iter().rposition(asks).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::super::ids::Ids;
    use super::super::super::signature::sign;
    use super::*;

    #[test]
    fn reasoning_is_there_altered_moved_or_missing() {
        let (prefix, text) = (Prefix::default(), "so");
        let signature = sign("m", text, prefix);
        let call = Ids::new(1, 1).call("toolu_", 0, Thought::of("m", text));
        let turn = |index, prefix, text| ThinkingTurn {
            index,
            prefix,
            blocks: vec![SignedBlock { at: 0, text, signature: &signature }],
            calls: vec![&call],
        };
        let bare = |index| ThinkingTurn { blocks: Vec::new(), ..turn(index, prefix, "") };
        let moved = Prefix { system: prefix.system.text("x"), ..prefix };
        let counts = |equal, altered, missing| Returned { equal, altered, missing };
        assert_eq!(judge("m", &[turn(1, prefix, "so")], 0, true), (counts(1, 0, 0), None));
        assert_eq!(
            judge("m", &[turn(1, prefix, "no")], 0, true),
            (counts(0, 1, 0), Some(ThinkingFault::Altered(1, 0)))
        );
        let (returned, fault) = judge("m", &[turn(1, moved, "so")], 0, true);
        assert!(matches!(fault, Some(ThinkingFault::Moved(1, 0, _))) && returned == counts(0, 1, 0));
        assert_eq!(judge("m", &[turn(1, moved, "so")], 0, false), (counts(1, 0, 0), None));
        assert_eq!(judge("m", &[bare(1)], 0, true), (counts(0, 0, 1), None));
        let partly = [bare(1), turn(3, prefix, "so")];
        assert_eq!(judge("m", &partly, 0, true), (counts(1, 0, 1), Some(ThinkingFault::Dropped(1))));
        assert_eq!(judge("m", &partly, 2, true), (counts(1, 0, 1), None), "an earlier turn may be without");
        assert_eq!(judge("other", &partly, 0, true), (counts(0, 0, 0), None), "foreign reasoning is ignored");
    }
}
