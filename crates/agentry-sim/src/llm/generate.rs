//! Generates the simulated model's answer: a pure function of seed, model and conversation.

use agentry_core::agent_loop::ASK_HUMAN;
use agentry_core::sample::sample;
use serde_json::{Value, json};

use super::answer::{Answer, Stop, ToolCall};
use super::directive::{Directive, DirectiveMatch, find, strip};
use super::prompt::{AnswerForm, Prompt, Role, TOKEN_CHARS, ToolDemand, ToolOffer};
use super::{persona, plan};

/// Upper bound of `[[long:N]]` and `[[reason:N]]`.
const MAX_FILL_TOKENS: u64 = 1_000_000;
/// Words of long answers and of reasoning, one token each.
const FILL: [&str; 4] = ["so, ", "and ", "then", " on "];
/// Characters of the question that the reasoning repeats.
const THOUGHT_CHARS: usize = 60;
/// Answer to `[[refuse]]`.
const REFUSED: &str = "I cannot help with that.";
/// Answer to `[[pause]]`, until it is sent back.
const PAUSED: &str = "I am looking that up.";
const PLAN_TITLE: &str = "agentry_plan";

#[derive(Default)]
pub(super) struct Conversation<'a> {
    pub(super) system: &'a str,
    pub(super) first_user: &'a str,
    pub(super) last_user: &'a str,
    /// User messages before the last one, oldest first.
    pub(super) earlier: Vec<&'a str>,
    /// Tool results after the last user message.
    pub(super) results: Vec<&'a str>,
    pub(super) has_answer: bool,
    /// The last message is the assistant's, which the answer goes on with.
    pub(super) is_continued: bool,
}

impl<'a> Conversation<'a> {
    pub(super) fn of(prompt: &'a Prompt<'_>) -> Self {
        let mut conversation = Self::default();
        let mut users = 0;
        for message in &prompt.messages {
            let text = message.text.as_ref();
            conversation.is_continued = message.role == Role::Assistant;
            match message.role {
                Role::System if conversation.system.is_empty() => conversation.system = text,
                Role::System => {}
                Role::User => {
                    if users == 0 {
                        conversation.first_user = text;
                    } else {
                        conversation.earlier.push(conversation.last_user);
                    }
                    users += 1;
                    conversation.last_user = text;
                    conversation.results.clear();
                }
                Role::Assistant => conversation.has_answer = true,
                Role::Tool => conversation.results.push(text),
            }
        }
        conversation
    }
}

pub(super) fn generate(seed: u64, prompt: &Prompt<'_>) -> Answer {
    let conversation = Conversation::of(prompt);
    let directives = find(conversation.last_user);
    let mut answer = full_answer(seed, prompt, &conversation, &directives);
    if prompt.thinks || prompt.reasons {
        answer.thinking = reasoning(prompt, &conversation, &directives);
    }
    let answer = answer.cut(prompt.stop.iter().map(AsRef::as_ref), prompt.max_tokens);
    let is_cut = directives.iter().any(|found| found.directive == Directive::Cut);
    if is_cut { answer.halved() } else { answer }
}

/// Returns what the model reasons: as much as a directive says, or a sentence when it reasons by itself.
fn reasoning(prompt: &Prompt<'_>, conversation: &Conversation<'_>, directives: &[DirectiveMatch<'_>]) -> String {
    let reasoned = directives.iter().find_map(|found| match found.directive {
        Directive::Reason(tokens) => Some(tokens),
        _ => None,
    });
    match reasoned {
        Some(tokens) => fill(tokens),
        None if prompt.reasons => {
            let question: String = strip(conversation.last_user).chars().take(THOUGHT_CHARS).collect();
            format!("Step {}: what helps with “{question}”?", conversation.results.len() + 1)
        }
        None => String::new(),
    }
}

fn full_answer(
    seed: u64,
    prompt: &Prompt<'_>,
    conversation: &Conversation<'_>,
    directives: &[DirectiveMatch<'_>],
) -> Answer {
    if let AnswerForm::Schema(schema) = &prompt.form
        && is_plan(schema)
    {
        return Answer::text(plan::answer(schema, conversation));
    }
    if let Some(calls) = calls(prompt, conversation, directives) {
        return Answer::calls(calls);
    }
    if let Some(call) = forced(seed, prompt, conversation) {
        return Answer::calls(vec![call]);
    }
    for found in directives {
        match found.directive {
            // The text of `[[say]]` is sent as it is, even when it breaks the requested format.
            Directive::Say(text) => return Answer::text(text),
            Directive::Long(tokens) => return Answer::text(fill(tokens)),
            Directive::Refuse => return Answer { stop: Stop::Refusal, ..Answer::text(REFUSED) },
            Directive::Empty => return Answer::text(""),
            Directive::Pause if !conversation.is_continued => {
                return Answer { stop: Stop::Pause, ..Answer::text(PAUSED) };
            }
            _ => {}
        }
    }
    let text = persona::speak(hash(seed, prompt), conversation, &strip(conversation.last_user));
    match &prompt.form {
        AnswerForm::Text => Answer::text(text),
        AnswerForm::Object => Answer::text(json!({"answer": text}).to_string()),
        AnswerForm::Schema(schema) => Answer::text(sample(schema, &text).to_string()),
    }
}

/// Returns the calls that directives ask for. They come one after another, each after the result of the call before it,
/// or all at once with `[[together]]`.
fn calls(
    prompt: &Prompt<'_>,
    conversation: &Conversation<'_>,
    directives: &[DirectiveMatch<'_>],
) -> Option<Vec<ToolCall>> {
    if prompt.choice == ToolDemand::Never {
        return None;
    }
    let together = directives.iter().any(|found| found.directive == Directive::Together);
    let rest = directives.iter().filter_map(|found| call(found, prompt)).skip(conversation.results.len());
    let calls: Vec<ToolCall> = rest.take(if together { usize::MAX } else { 1 }).collect();
    (!calls.is_empty()).then_some(calls)
}

fn call(found: &DirectiveMatch<'_>, prompt: &Prompt<'_>) -> Option<ToolCall> {
    match &found.directive {
        Directive::Tool { name, arguments } if prompt.offer(name).is_some() => {
            Some(ToolCall { name: (*name).to_owned(), arguments: (*arguments).to_owned() })
        }
        Directive::Ask { question, options } if prompt.offer(ASK_HUMAN).is_some() => {
            let mut arguments = json!({"question": question});
            if !options.is_empty() {
                arguments["options"] = json!(options);
            }
            Some(ToolCall { name: ASK_HUMAN.to_owned(), arguments: arguments.to_string() })
        }
        _ => None,
    }
}

fn forced(seed: u64, prompt: &Prompt<'_>, conversation: &Conversation<'_>) -> Option<ToolCall> {
    let offer: &ToolOffer<'_> = match &prompt.choice {
        ToolDemand::Any => prompt.tools.first()?,
        ToolDemand::Tool(name) => prompt.offer(name)?,
        ToolDemand::Auto | ToolDemand::Never => return None,
    };
    let schema = offer.schema.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| json!({}));
    let arguments = if is_plan(&schema) {
        plan::answer(&schema, conversation)
    } else {
        let text = persona::speak(hash(seed, prompt), conversation, &strip(conversation.last_user));
        sample(&schema, &text).to_string()
    };
    Some(ToolCall { name: offer.name.clone().into_owned(), arguments })
}

fn is_plan(schema: &Value) -> bool {
    schema.get("title").and_then(Value::as_str) == Some(PLAN_TITLE)
}

/// Returns filler words of `tokens` tokens.
fn fill(tokens: u64) -> String {
    let count = usize::try_from(tokens.min(MAX_FILL_TOKENS)).unwrap_or(0);
    let mut text = String::with_capacity(count * TOKEN_CHARS);
    text.extend(FILL.iter().cycle().take(count).copied());
    text
}

/// FNV-1a over seed, model and conversation: the same on every machine and in every protocol. Answers in recordings and
/// expected outputs depend on it, so it is not replaced by a hasher of the standard library.
pub(super) fn hash(seed: u64, prompt: &Prompt<'_>) -> u64 {
    let parts = prompt.messages.iter().flat_map(|message| [message.role.word(), message.text.as_ref()]);
    fnv(seed, std::iter::once(prompt.model.as_ref()).chain(parts))
}

/// FNV-1a over texts, each ended by a byte that does not occur in UTF-8.
pub(super) fn fnv<'a>(seed: u64, parts: impl Iterator<Item = &'a str>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for part in parts {
        for byte in part.bytes().chain(std::iter::once(0xff)) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::super::prompt::Message;
    use super::*;

    fn say(role: Role, text: &str) -> Message<'_> {
        Message { role, text: text.into() }
    }

    fn prompt<'a>(messages: Vec<Message<'a>>, tools: &[&'a str]) -> Prompt<'a> {
        let tools = tools.iter().map(|name| ToolOffer { name: (*name).into(), schema: None }).collect();
        Prompt { model: "m".into(), messages, tools, ..Prompt::default() }
    }

    fn user(text: &str) -> Prompt<'_> {
        prompt(vec![say(Role::User, text)], &[])
    }

    fn called(answer: &Answer) -> Vec<(&str, &str)> {
        answer.calls.iter().map(|call| (call.name.as_str(), call.arguments.as_str())).collect()
    }

    #[test]
    fn the_same_question_has_the_same_answer_and_another_has_another() {
        assert_eq!(generate(7, &user("Why?")), generate(7, &user("Why?")));
        assert_ne!(generate(7, &user("Why?")), generate(7, &user("How?")));
    }

    #[test]
    fn it_remembers_what_was_said_earlier() {
        let messages = vec![
            say(Role::System, "You are a customer support agent."),
            say(Role::User, "My order A-1042 has not arrived."),
            say(Role::Assistant, "I am sorry."),
            say(Role::User, "Which order did I ask about?"),
        ];
        let answer = generate(7, &prompt(messages, &[])).text;
        assert!(answer.contains("A-1042"), "{answer}");
    }

    #[test]
    fn tools_are_called_in_order_and_their_results_used() {
        let question = r#"Do it [[tool:find {"q":"x"}]] [[tool:hidden {}]] [[ask:Which?|EU|US]]"#;
        let after = |results: &[&'static str]| {
            let mut messages = vec![say(Role::User, question)];
            messages.extend(results.iter().map(|result| say(Role::Tool, result)));
            generate(7, &prompt(messages, &["find", ASK_HUMAN]))
        };
        assert_eq!(called(&after(&[])), [("find", r#"{"q":"x"}"#)]);
        assert_eq!(called(&after(&["found 3"])), [("ask_human", r#"{"options":["EU","US"],"question":"Which?"}"#)]);
        let last = after(&["found 3", "US"]);
        assert!(last.stop == Stop::End && last.text.contains("US") && !last.text.contains("[["), "{last:?}");
    }

    #[test]
    fn tools_are_called_together_when_that_is_asked_for_and_never_when_it_is_forbidden() {
        let mut both = prompt(vec![say(Role::User, "[[together]] [[tool:a {}]] [[tool:b]]")], &["a", "b"]);
        assert_eq!(called(&generate(7, &both)), [("a", "{}"), ("b", "{}")]);
        both.choice = ToolDemand::Never;
        assert_eq!(generate(7, &both).stop, Stop::End);
    }

    #[test]
    fn a_tool_that_must_be_called_gets_arguments_that_fit() {
        let schema = r#"{"type":"object","properties":{"team":{"enum":["billing"]}},"required":["team"]}"#;
        let tools = vec![ToolOffer { name: "sort".into(), schema: Some(schema.into()) }];
        let forced = Prompt { tools, choice: ToolDemand::Tool("sort".into()), ..user("Sort this") };
        assert_eq!(called(&generate(7, &forced)), [("sort", r#"{"team":"billing"}"#)]);
    }

    #[test]
    fn answers_have_the_form_that_was_asked_for() {
        let schema = json!({"type": "object", "properties": {"team": {"enum": ["billing"]}}, "required": ["team"]});
        let formed = Prompt { form: AnswerForm::Schema(schema), ..user("Sort this") };
        assert_eq!(generate(7, &formed).text, r#"{"team":"billing"}"#);
        let object = Prompt { form: AnswerForm::Object, ..user("Sort this") };
        assert!(serde_json::from_str::<Value>(&generate(7, &object).text).unwrap()["answer"].is_string());
    }

    #[test]
    fn directives_say_refuse_lengthen_and_reason() {
        assert_eq!(generate(7, &user("x [[say:Hello, you.]]")).text, "Hello, you.");
        assert_eq!(generate(7, &user("[[refuse]]")).stop, Stop::Refusal);
        assert_eq!(generate(7, &user("[[long:500]]")).tokens(), (0, 500));
        let reasoning = |thinks| generate(7, &Prompt { thinks, ..user("[[reason:9]] [[say:ok]]") }).tokens();
        assert_eq!((reasoning(true), reasoning(false)), ((9, 1), (0, 1)));
    }

    #[test]
    fn directives_pause_once_cut_and_leave_nothing() {
        assert_eq!(generate(7, &user("[[pause]] [[say:done]]")).stop, Stop::Pause);
        let after = vec![say(Role::User, "[[pause]] [[say:done]]"), say(Role::Assistant, PAUSED)];
        assert_eq!(generate(7, &prompt(after, &[])).text, "done");
        let cut = generate(7, &user("[[cut]] [[say:12345678]]"));
        assert_eq!((cut.text.as_str(), cut.stop), ("1234", Stop::Length));
        assert_eq!(generate(7, &user("[[empty]]")), Answer::text(""));
    }

    #[test]
    fn a_model_that_reasons_by_itself_reasons_anew_in_each_step() {
        let thought = |results: usize| {
            let mut messages = vec![say(Role::User, "Find it [[tool:find {}]]")];
            messages.extend((0..results).map(|_| say(Role::Tool, "r")));
            generate(7, &Prompt { reasons: true, ..prompt(messages, &["find"]) }).thinking
        };
        assert!(thought(0).contains("Find it") && !thought(0).contains("[["), "{}", thought(0));
        assert_ne!(thought(0), thought(1));
    }
}
