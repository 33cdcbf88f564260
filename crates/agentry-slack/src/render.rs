//! Formatting of posts: answers in parts, questions with buttons, dialogs.

use agentry_core::clarification::{Clarification, Resolution};
use agentry_core::id::ClarificationId;
use agentry_core::time::Timestamp;
use serde_json::{Value, json};

use crate::{MAX_TEXT, Post, escape, split, to_mrkdwn};

/// Largest number of parts of an answer; a longer one is cut with a note.
const MAX_PARTS: usize = 20;
/// Longest section, in characters (Slack: 3,000).
const MAX_SECTION: usize = 2_900;
const MAX_SECTIONS: usize = 5;
/// Longest button label, in characters (Slack: 75).
const MAX_BUTTON: usize = 75;
/// Longest answer in a dialog, in characters (Slack: 3,000).
const MAX_INPUT: u32 = 3_000;

/// Prefix of action ids of answer buttons; the number of the option follows.
pub const ANSWER_ACTION: &str = "agentry_answer";
/// Action id of the button that opens the dialog.
pub const OPEN_ACTION: &str = "agentry_open";
/// Callback id of our dialogs.
pub const CALLBACK: &str = "agentry_answer";
/// Block id of the dialog's input.
pub const ANSWER_BLOCK: &str = "answer";
/// Action id of the dialog's input.
pub const ANSWER_INPUT: &str = "text";

/// Value of our buttons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Click {
    /// Clarification that the button belongs to.
    pub question: ClarificationId,
    /// Index of the option; `None` for the dialog.
    pub option: Option<usize>,
}

impl Click {
    fn value(self) -> String {
        match self.option {
            Some(option) => format!("{}:{option}", self.question),
            None => self.question.to_string(),
        }
    }

    /// Parses a button's value.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let (question, option) = match value.split_once(':') {
            Some((question, option)) => (question, Some(option.parse().ok()?)),
            None => (value, None),
        };
        Some(Self { question: question.parse().ok()?, option })
    }
}

/// Returns the posts of an answer, each with the marker of its part.
#[must_use]
pub fn answer_parts(markdown: &str, mark: &str) -> Vec<Post> {
    let mut texts = split(&to_mrkdwn(markdown), MAX_TEXT);
    if texts.is_empty() {
        texts.push("(empty)".to_owned());
    }
    if texts.len() > MAX_PARTS {
        let cut = texts.len() - MAX_PARTS + 1;
        texts.truncate(MAX_PARTS - 1);
        texts.push(format!("_…and about {} more characters: the task has the whole answer._", cut * MAX_TEXT));
    }
    let post = |(n, text): (usize, String)| Post { text, blocks: None, mark: Some(format!("{mark}/{n}")) };
    texts.into_iter().enumerate().map(post).collect()
}

fn section(text: &str) -> Value {
    json!({"type": "section", "text": {"type": "mrkdwn", "text": text}})
}

fn context(text: &str) -> Value {
    json!({"type": "context", "elements": [{"type": "mrkdwn", "text": text}]})
}

fn question_sections(question: &Clarification) -> Vec<Value> {
    let text = format!("*{}* asks:\n{}", question.agent, to_mrkdwn(&question.question));
    split(&text, MAX_SECTION).iter().take(MAX_SECTIONS).map(|part| section(part)).collect()
}

fn button(text: &str, action: &str, value: &str) -> Value {
    let label: String = if text.chars().count() > MAX_BUTTON {
        text.chars().take(MAX_BUTTON - 1).chain(['…']).collect()
    } else {
        text.to_owned()
    };
    json!({"type": "button", "action_id": action, "value": value, "text": {"type": "plain_text", "text": label}})
}

/// Formats a time in the reader's own time zone.
fn slack_date(at: Timestamp) -> String {
    let seconds = at.millis().div_euclid(1_000);
    format!("<!date^{seconds}^{{date_short_pretty}} {{time}}|{seconds}>")
}

/// Returns a question with a button per option, or one button that opens a dialog.
#[must_use]
pub fn question_post(question: &Clarification) -> Post {
    let options = question.options.iter().enumerate().map(|(n, option)| {
        let value = Click { question: question.id, option: Some(n) }.value();
        button(option, &format!("{ANSWER_ACTION}:{n}"), &value)
    });
    let mut buttons: Vec<Value> = options.collect();
    if buttons.is_empty() {
        buttons.push(button("Answer…", OPEN_ACTION, &Click { question: question.id, option: None }.value()));
    }
    let mut blocks = question_sections(question);
    blocks.push(json!({"type": "actions", "block_id": question.id.to_string(), "elements": buttons}));
    let until = slack_date(question.expires_at);
    let how = if question.options.is_empty() { "Answer with the button, or reply in this thread. " } else { "" };
    blocks.push(context(&match &question.default {
        Some(default) => format!("{how}Until {until}; then “{}” is taken.", escape(default)),
        None => format!("{how}Until {until}."),
    }));
    let text = format!("{} asks: {}", question.agent, short(&question.question));
    Post { text, blocks: Some(Value::Array(blocks)), mark: Some(format!("question/{}", question.id)) }
}

/// Returns the reminder of a question. The first post has buttons too, but readers should not have to look for it.
#[must_use]
pub fn reminder_post(question: &Clarification) -> Post {
    let mut post = question_post(question);
    post.text = format!("Still open: {}", post.text);
    post.mark = Some(format!("reminder/{}", question.id));
    if let Some(blocks) = post.blocks.as_mut().and_then(Value::as_array_mut) {
        blocks.insert(0, context(":bell: This question is still open."));
    }
    post
}

/// Returns the post of a resolved question, without buttons.
#[must_use]
pub fn resolved_question_post(question: &Clarification) -> Post {
    let how = question.resolution.as_ref().map_or_else(String::new, resolution_text);
    let mut blocks = question_sections(question);
    blocks.push(context(&how));
    let text = format!("{} asked: {} — {how}", question.agent, short(&question.question));
    Post { text, blocks: Some(Value::Array(blocks)), mark: Some(format!("question/{}", question.id)) }
}

/// Returns the resolution of a question, in mrkdwn.
#[must_use]
pub fn resolution_text(resolution: &Resolution) -> String {
    match resolution {
        Resolution::Answered { answer, by, at } => {
            format!(":white_check_mark: *{}* · answered by {} · {}", short(answer), escape(by), slack_date(*at))
        }
        Resolution::Defaulted { answer, at } => {
            format!(":hourglass: nobody answered in time; *{}* was taken · {}", short(answer), slack_date(*at))
        }
        Resolution::Expired { at } => format!(":hourglass: nobody answered in time · {}", slack_date(*at)),
        Resolution::Withdrawn { at } => format!(":no_entry_sign: not needed any more · {}", slack_date(*at)),
    }
}

/// Returns one escaped line, short enough for a notification.
fn short(text: &str) -> String {
    const MOST: usize = 300;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = line.chars().take(MOST).collect();
    escape(&if cut.len() < line.len() { format!("{cut}…") } else { cut })
}

/// Returns the dialog for free text. Slack returns `private` with the answer.
#[must_use]
pub fn answer_dialog(question: &Clarification, private: &str) -> Value {
    let mut blocks = question_sections(question);
    blocks.push(json!({
        "type": "input",
        "block_id": ANSWER_BLOCK,
        "label": {"type": "plain_text", "text": "Your answer"},
        "element": {
            "type": "plain_text_input", "action_id": ANSWER_INPUT, "multiline": true, "min_length": 1,
            "max_length": MAX_INPUT,
        },
    }));
    json!({
        "type": "modal",
        "callback_id": CALLBACK,
        "private_metadata": private,
        "title": {"type": "plain_text", "text": "Answer"},
        "submit": {"type": "plain_text", "text": "Send"},
        "close": {"type": "plain_text", "text": "Cancel"},
        "blocks": blocks,
    })
}

#[cfg(test)]
mod tests {
    use agentry_core::agent::AgentName;
    use agentry_core::id::TaskId;

    use super::*;

    fn question(options: &[&str]) -> Clarification {
        Clarification {
            id: ClarificationId::from_parts(5, 7),
            task: TaskId::from_parts(1, 1),
            agent: AgentName::new("team").unwrap(),
            scope: "main".to_owned(),
            question: "which **region**?".to_owned(),
            options: options.iter().map(ToString::to_string).collect(),
            asked_at: Timestamp(0),
            expires_at: Timestamp(60_000_000),
            default: Some("eu".to_owned()),
            reply_to: None,
            resolution: None,
        }
    }

    fn buttons(post: &Post) -> Vec<Value> {
        let blocks = post.blocks.as_ref().and_then(Value::as_array).unwrap();
        let actions = blocks.iter().find(|block| block["type"] == "actions");
        actions.map_or_else(Vec::new, |block| block["elements"].as_array().unwrap().clone())
    }

    #[test]
    fn every_option_has_a_button_that_says_which() {
        let long = "x".repeat(200);
        let asked = question(&["eu", "us", &long]);
        let buttons = buttons(&question_post(&asked));
        assert_eq!(buttons.len(), 3);
        for (n, button) in buttons.iter().enumerate() {
            let click = Click::parse(button["value"].as_str().unwrap()).unwrap();
            assert_eq!(click, Click { question: asked.id, option: Some(n) });
            assert!(button["text"]["text"].as_str().unwrap().chars().count() <= MAX_BUTTON);
        }
        assert_ne!(buttons[0]["action_id"], buttons[1]["action_id"]);
    }

    #[test]
    fn free_text_opens_a_dialog_and_an_ended_question_has_no_buttons() {
        let mut asked = question(&[]);
        let open = buttons(&question_post(&asked));
        assert_eq!((open.len(), &open[0]["action_id"]), (1, &json!(OPEN_ACTION)));
        assert_eq!(Click::parse(open[0]["value"].as_str().unwrap()).unwrap().option, None);
        asked.resolution =
            Some(Resolution::Answered { answer: "<eu>".to_owned(), by: "ada".to_owned(), at: Timestamp(1) });
        let post = resolved_question_post(&asked);
        assert!(buttons(&post).is_empty());
        let text = post.blocks.unwrap().to_string();
        assert!(text.contains("&lt;eu&gt;") && text.contains("answered by ada"), "{text}");
        assert_eq!(answer_dialog(&asked, "p")["private_metadata"], "p");
    }

    #[test]
    fn values_that_are_not_ours_are_not_clicks() {
        for value in ["", "x", "x:1", "0192f3a4-7c1e-7b2a-9d3c-5e6f708192a3:x"] {
            assert_eq!(Click::parse(value), None, "{value}");
        }
    }

    #[test]
    fn long_answers_are_numbered_parts_and_endless_ones_are_cut() {
        let parts = answer_parts(&"word ".repeat(3_000), "answer/x");
        assert_eq!(parts.len(), 4);
        assert_eq!(parts[3].mark.as_deref(), Some("answer/x/3"));
        let endless = answer_parts(&"word\n".repeat(60_000), "answer/x");
        assert_eq!(endless.len(), MAX_PARTS);
        assert!(endless[MAX_PARTS - 1].text.contains("more characters"));
        assert_eq!(answer_parts("", "m").len(), 1);
    }
}
