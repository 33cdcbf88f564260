//! What the simulated model says: a pure function of seed, model and conversation.

use agentry_core::agent_loop::ASK_HUMAN;
use agentry_core::sample::sample;
use serde_json::{Value, json};

use super::answer::{Answer, Call, Stop};
use super::ask::{Ask, Choice, Form, Offer, Role, TOKEN_CHARS};
use super::directive::{Directive, Found, find, strip};
use super::{persona, plan};

/// Tokens of `[[long:N]]` and `[[reason:N]]` at most.
const MAX_FILL_TOKENS: u64 = 1_000_000;
/// What long answers and reasoning consist of: one token each.
const FILL: [&str; 4] = ["so, ", "and ", "then", " on "];
/// What is said instead of an answer that is refused.
const REFUSED: &str = "I cannot help with that.";
/// The title of the schema of plans.
const PLAN_TITLE: &str = "agentry_plan";

/// The parts of a conversation that an answer looks at.
pub(super) struct Conversation<'a> {
    /// The first system message.
    pub(super) system: &'a str,
    /// The first user message.
    pub(super) first_user: &'a str,
    /// The last user message.
    pub(super) last_user: &'a str,
    /// User messages before the last one, oldest first.
    pub(super) earlier: Vec<&'a str>,
    /// Tool results after the last user message.
    pub(super) results: Vec<&'a str>,
    /// Whether the model has said something in it before.
    pub(super) has_answer: bool,
}

impl<'a> Conversation<'a> {
    /// The conversation of a request.
    pub(super) fn of(ask: &'a Ask<'_>) -> Self {
        let mut conversation = Self {
            system: "",
            first_user: "",
            last_user: "",
            earlier: Vec::new(),
            results: Vec::new(),
            has_answer: false,
        };
        let mut users = 0;
        for message in &ask.messages {
            let text = message.text.as_ref();
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

/// The answer to a request.
pub(super) fn think(seed: u64, ask: &Ask<'_>) -> Answer {
    let conversation = Conversation::of(ask);
    let directives = find(conversation.last_user);
    let answer = said(seed, ask, &conversation, &directives);
    let mut answer = answer.cut(ask.stop.iter().map(AsRef::as_ref), ask.max_tokens);
    if ask.thinks {
        let reasoned = directives.iter().find_map(|found| match found.directive {
            Directive::Reason(tokens) => Some(tokens),
            _ => None,
        });
        answer.thinking = fill(reasoned.unwrap_or(0));
    }
    answer
}

fn said(seed: u64, ask: &Ask<'_>, conversation: &Conversation<'_>, directives: &[Found<'_>]) -> Answer {
    if let Form::Schema(schema) = &ask.form
        && is_plan(schema)
    {
        return Answer::text(plan::answer(schema, conversation));
    }
    if let Some(calls) = calls(ask, conversation, directives) {
        return Answer::calls(calls);
    }
    if let Some(call) = forced(seed, ask, conversation) {
        return Answer::calls(vec![call]);
    }
    for found in directives {
        match found.directive {
            // What `[[say]]` puts in the model's mouth is said as it is, also where it breaks the form.
            Directive::Say(text) => return Answer::text(text),
            Directive::Long(tokens) => return Answer::text(fill(tokens)),
            Directive::Refuse => return Answer { stop: Stop::Refusal, ..Answer::text(REFUSED) },
            _ => {}
        }
    }
    let text = persona::speak(hash(seed, ask), conversation, &strip(conversation.last_user));
    match &ask.form {
        Form::Text => Answer::text(text),
        Form::Object => Answer::text(json!({"answer": text}).to_string()),
        Form::Schema(schema) => Answer::text(sample(schema, &text).to_string()),
    }
}

/// The calls that directives ask for: one after another, since each result that came back is the answer to the call
/// before, or all at once.
fn calls(ask: &Ask<'_>, conversation: &Conversation<'_>, directives: &[Found<'_>]) -> Option<Vec<Call>> {
    if ask.choice == Choice::Never {
        return None;
    }
    let together = directives.iter().any(|found| found.directive == Directive::Together);
    let rest = directives.iter().filter_map(|found| call(found, ask)).skip(conversation.results.len());
    let calls: Vec<Call> = rest.take(if together { usize::MAX } else { 1 }).collect();
    (!calls.is_empty()).then_some(calls)
}

/// The call that a directive asks for, when its tool is offered.
fn call(found: &Found<'_>, ask: &Ask<'_>) -> Option<Call> {
    match &found.directive {
        Directive::Tool { name, arguments } if ask.offer(name).is_some() => {
            Some(Call { name: (*name).to_owned(), arguments: (*arguments).to_owned() })
        }
        Directive::Ask { question, options } if ask.offer(ASK_HUMAN).is_some() => {
            let mut arguments = json!({"question": question});
            if !options.is_empty() {
                arguments["options"] = json!(options);
            }
            Some(Call { name: ASK_HUMAN.to_owned(), arguments: arguments.to_string() })
        }
        _ => None,
    }
}

/// The call that a request insists on, with arguments that fit the tool's schema.
fn forced(seed: u64, ask: &Ask<'_>, conversation: &Conversation<'_>) -> Option<Call> {
    let offer: &Offer<'_> = match &ask.choice {
        Choice::Any => ask.tools.first()?,
        Choice::Tool(name) => ask.offer(name)?,
        Choice::Auto | Choice::Never => return None,
    };
    let schema = offer.schema.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| json!({}));
    let arguments = if is_plan(&schema) {
        plan::answer(&schema, conversation)
    } else {
        let text = persona::speak(hash(seed, ask), conversation, &strip(conversation.last_user));
        sample(&schema, &text).to_string()
    };
    Some(Call { name: offer.name.clone().into_owned(), arguments })
}

fn is_plan(schema: &Value) -> bool {
    schema.get("title").and_then(Value::as_str) == Some(PLAN_TITLE)
}

/// So many tokens of words.
fn fill(tokens: u64) -> String {
    let count = usize::try_from(tokens.min(MAX_FILL_TOKENS)).unwrap_or(0);
    let mut text = String::with_capacity(count * TOKEN_CHARS);
    text.extend(FILL.iter().cycle().take(count).copied());
    text
}

/// FNV-1a over seed, model and conversation: cheap, and the same on every machine and in every protocol.
pub(super) fn hash(seed: u64, ask: &Ask<'_>) -> u64 {
    let parts = ask.messages.iter().flat_map(|message| [message.role.word(), message.text.as_ref()]);
    fnv(seed, std::iter::once(ask.model.as_ref()).chain(parts))
}

/// FNV-1a over texts, each ended by a byte that no text has.
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
    use super::super::ask::Message;
    use super::*;

    fn say(role: Role, text: &str) -> Message<'_> {
        Message { role, text: text.into() }
    }

    fn ask<'a>(messages: Vec<Message<'a>>, tools: &[&'a str]) -> Ask<'a> {
        let tools = tools.iter().map(|name| Offer { name: (*name).into(), schema: None }).collect();
        Ask { model: "m".into(), messages, tools, ..Ask::default() }
    }

    fn user(text: &str) -> Ask<'_> {
        ask(vec![say(Role::User, text)], &[])
    }

    fn called(answer: &Answer) -> Vec<(&str, &str)> {
        answer.calls.iter().map(|call| (call.name.as_str(), call.arguments.as_str())).collect()
    }

    #[test]
    fn the_same_question_has_the_same_answer_and_another_has_another() {
        assert_eq!(think(7, &user("Why?")), think(7, &user("Why?")));
        assert_ne!(think(7, &user("Why?")), think(7, &user("How?")));
    }

    #[test]
    fn it_remembers_what_was_said_earlier() {
        let messages = vec![
            say(Role::System, "You are a customer support agent."),
            say(Role::User, "My order A-1042 has not arrived."),
            say(Role::Assistant, "I am sorry."),
            say(Role::User, "Which order did I ask about?"),
        ];
        let answer = think(7, &ask(messages, &[])).text;
        assert!(answer.contains("A-1042"), "{answer}");
    }

    #[test]
    fn tools_are_called_in_order_and_their_results_used() {
        let question = r#"Do it [[tool:find {"q":"x"}]] [[tool:hidden {}]] [[ask:Which?|EU|US]]"#;
        let after = |results: &[&'static str]| {
            let mut messages = vec![say(Role::User, question)];
            messages.extend(results.iter().map(|result| say(Role::Tool, result)));
            think(7, &ask(messages, &["find", ASK_HUMAN]))
        };
        assert_eq!(called(&after(&[])), [("find", r#"{"q":"x"}"#)]);
        assert_eq!(called(&after(&["found 3"])), [("ask_human", r#"{"options":["EU","US"],"question":"Which?"}"#)]);
        let last = after(&["found 3", "US"]);
        assert!(last.stop == Stop::End && last.text.contains("US") && !last.text.contains("[["), "{last:?}");
    }

    #[test]
    fn tools_are_called_together_when_that_is_asked_for_and_never_when_it_is_forbidden() {
        let mut both = ask(vec![say(Role::User, "[[together]] [[tool:a {}]] [[tool:b]]")], &["a", "b"]);
        assert_eq!(called(&think(7, &both)), [("a", "{}"), ("b", "{}")]);
        both.choice = Choice::Never;
        assert_eq!(think(7, &both).stop, Stop::End);
    }

    #[test]
    fn a_tool_that_must_be_called_gets_arguments_that_fit() {
        let schema = r#"{"type":"object","properties":{"team":{"enum":["billing"]}},"required":["team"]}"#;
        let tools = vec![Offer { name: "sort".into(), schema: Some(schema) }];
        let forced = Ask { tools, choice: Choice::Tool("sort".into()), ..user("Sort this") };
        assert_eq!(called(&think(7, &forced)), [("sort", r#"{"team":"billing"}"#)]);
    }

    #[test]
    fn answers_have_the_form_that_was_asked_for() {
        let schema = json!({"type": "object", "properties": {"team": {"enum": ["billing"]}}, "required": ["team"]});
        let formed = Ask { form: Form::Schema(schema), ..user("Sort this") };
        assert_eq!(think(7, &formed).text, r#"{"team":"billing"}"#);
        let object = Ask { form: Form::Object, ..user("Sort this") };
        assert!(serde_json::from_str::<Value>(&think(7, &object).text).unwrap()["answer"].is_string());
    }

    #[test]
    fn directives_say_refuse_lengthen_and_reason() {
        assert_eq!(think(7, &user("x [[say:Hello, you.]]")).text, "Hello, you.");
        assert_eq!(think(7, &user("[[refuse]]")).stop, Stop::Refusal);
        assert_eq!(think(7, &user("[[long:500]]")).tokens(), (0, 500));
        let reasoning = |thinks| think(7, &Ask { thinks, ..user("[[reason:9]] [[say:ok]]") }).tokens();
        assert_eq!((reasoning(true), reasoning(false)), ((9, 1), (0, 1)));
    }
}
