//! What the simulated model says: a pure function of seed, model and conversation.

use agentry_core::agent_loop::ASK_HUMAN;
use agentry_core::sample::sample;
use serde_json::{Value, json};

use super::directive::{Directive, Found, find, strip};
use super::wire::{Form, Request, form};
use super::{persona, plan};

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Text, or JSON where a form was asked for.
    Text(String),
    /// The call of a tool.
    Call {
        /// Which.
        name: String,
        /// Its arguments, as JSON.
        arguments: String,
    },
}

impl Answer {
    /// Its tokens: characters divided by four, rounded up.
    pub(super) fn tokens(&self) -> u64 {
        let chars = match self {
            Self::Text(text) => text.chars().count(),
            Self::Call { name, arguments } => name.chars().count() + arguments.chars().count(),
        };
        chars.div_ceil(4) as u64
    }
}

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
    pub(super) fn of(request: &'a Request<'a>) -> Self {
        let mut conversation = Self {
            system: "",
            first_user: "",
            last_user: "",
            earlier: Vec::new(),
            results: Vec::new(),
            has_answer: false,
        };
        let mut users = 0;
        for message in &request.messages {
            let content = message.content.as_ref();
            match message.role.as_ref() {
                "system" | "developer" if conversation.system.is_empty() => conversation.system = content,
                "user" => {
                    if users == 0 {
                        conversation.first_user = content;
                    } else {
                        conversation.earlier.push(conversation.last_user);
                    }
                    users += 1;
                    conversation.last_user = content;
                    conversation.results.clear();
                }
                "assistant" => conversation.has_answer = true,
                "tool" => conversation.results.push(content),
                _ => {}
            }
        }
        conversation
    }
}

/// The answer to a request.
pub(super) fn think(seed: u64, request: &Request<'_>) -> Answer {
    let conversation = Conversation::of(request);
    let form = form(request.response_format);
    if let Form::Schema(schema) = &form
        && schema.get("title").and_then(Value::as_str) == Some("agentry_plan")
    {
        return Answer::Text(plan::answer(schema, &conversation));
    }
    let directives = find(conversation.last_user);
    let mut calls = directives.iter().filter_map(|found| call(found, request));
    // One after another: each result that came back is the answer to the call before.
    if let Some(next) = calls.nth(conversation.results.len()) {
        return next;
    }
    let said = directives.iter().find_map(|found| match found.directive {
        Directive::Say(text) => Some(text.to_owned()),
        _ => None,
    });
    let is_given = said.is_some();
    let text = said.unwrap_or_else(|| {
        let asked = strip(conversation.last_user);
        persona::speak(hash(seed, request), &conversation, &asked)
    });
    match form {
        Form::Text => Answer::Text(text),
        // What `[[say]]` puts in the model's mouth is said as it is, also where it breaks the form.
        _ if is_given => Answer::Text(text),
        Form::Object => Answer::Text(json!({"answer": text}).to_string()),
        Form::Schema(schema) => Answer::Text(sample(&schema, &text).to_string()),
    }
}

/// The call that a directive asks for, when its tool is offered.
fn call(found: &Found<'_>, request: &Request<'_>) -> Option<Answer> {
    match &found.directive {
        Directive::Tool { name, arguments } if request.offers(name) => {
            Some(Answer::Call { name: (*name).to_owned(), arguments: (*arguments).to_owned() })
        }
        Directive::Ask { question, options } if request.offers(ASK_HUMAN) => {
            let mut arguments = json!({"question": question});
            if !options.is_empty() {
                arguments["options"] = json!(options);
            }
            Some(Answer::Call { name: ASK_HUMAN.to_owned(), arguments: arguments.to_string() })
        }
        _ => None,
    }
}

/// FNV-1a over seed, model and conversation: cheap, and the same on every machine.
pub(super) fn hash(seed: u64, request: &Request<'_>) -> u64 {
    let parts = request.messages.iter().flat_map(|message| [message.role.as_ref(), message.content.as_ref()]);
    fnv(seed, std::iter::once(request.model.as_ref()).chain(parts))
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
    use super::*;

    fn ask(body: &Value) -> Answer {
        let text = body.to_string();
        think(7, &serde_json::from_str(&text).unwrap())
    }

    fn text(body: &Value) -> String {
        match ask(body) {
            Answer::Text(text) => text,
            Answer::Call { name, .. } => panic!("called {name}"),
        }
    }

    fn offers(names: &[&str]) -> Value {
        names.iter().map(|name| json!({"type": "function", "function": {"name": name}})).collect()
    }

    #[test]
    fn the_same_question_has_the_same_answer_and_another_has_another() {
        let body = |question: &str| json!({"model": "m", "messages": [{"role": "user", "content": question}]});
        assert_eq!(text(&body("Why?")), text(&body("Why?")));
        assert_ne!(text(&body("Why?")), text(&body("How?")));
    }

    #[test]
    fn it_remembers_what_was_said_earlier() {
        let answer = text(&json!({"model": "m", "messages": [
            {"role": "system", "content": "You are a customer support agent."},
            {"role": "user", "content": "My order A-1042 has not arrived."},
            {"role": "assistant", "content": "I am sorry."},
            {"role": "user", "content": "Which order did I ask about?"}
        ]}));
        assert!(answer.contains("A-1042"), "{answer}");
    }

    #[test]
    fn tools_are_called_in_order_and_their_results_used() {
        let mut messages = vec![json!({"role": "user",
            "content": r#"Do it [[tool:find {"q":"x"}]] [[tool:hidden {}]] [[ask:Which?|EU|US]]"#})];
        let body =
            |messages: &[Value]| json!({"model": "m", "messages": messages, "tools": offers(&["find", "ask_human"])});
        assert_eq!(ask(&body(&messages)), Answer::Call { name: "find".into(), arguments: r#"{"q":"x"}"#.into() });
        messages.push(json!({"role": "assistant", "content": null}));
        messages.push(json!({"role": "tool", "tool_call_id": "1", "content": "found 3"}));
        let Answer::Call { name, arguments } = ask(&body(&messages)) else { panic!("it asks") };
        assert_eq!(
            (name.as_str(), arguments.as_str()),
            ("ask_human", r#"{"options":["EU","US"],"question":"Which?"}"#)
        );
        messages.push(json!({"role": "tool", "tool_call_id": "2", "content": "US"}));
        let answer = text(&body(&messages));
        assert!(answer.contains("US") && !answer.contains("[["), "{answer}");
    }

    #[test]
    fn answers_have_the_form_that_was_asked_for() {
        let schema = json!({"type": "object", "properties": {"team": {"enum": ["billing"]}}, "required": ["team"]});
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Sort this"}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "t", "schema": schema}}});
        assert_eq!(text(&body), r#"{"team":"billing"}"#);
        body["response_format"] = json!({"type": "json_object"});
        assert!(serde_json::from_str::<Value>(&text(&body)).unwrap()["answer"].is_string());
    }

    #[test]
    fn say_is_said_as_it_is() {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "x [[say:Hello, you.]]"}]});
        assert_eq!(text(&body), "Hello, you.");
    }
}
