//! Phrases of the simulated model: a few sentences for each role, so that a demonstration reads naturally.

use super::directive::strip;
use super::generate::Conversation;

/// Characters of the question that an answer repeats.
const TOPIC_CHARS: usize = 140;
/// Characters of a tool result that an answer repeats.
const RESULT_CHARS: usize = 240;
/// Bytes of a system prompt that are searched for its role.
const ROLE_BYTES: usize = 600;

struct Persona {
    /// Words of a system prompt that indicate this role.
    words: &'static [&'static str],
    /// First sentences; `{}` is the topic.
    openings: [&'static str; 3],
    /// Second sentences.
    bodies: [&'static str; 3],
}

/// Ordered from specific to general: the first persona with a word in the system prompt answers.
static PERSONAS: [Persona; 9] = [
    Persona {
        words: &["aggregat", "combine the", "synthes"],
        openings: ["Putting the results together for “{}”.", "The combined answer to “{}”:", "In summary, on “{}”:"],
        bodies: [
            "The steps agree on the main points; where they differ, the checked figures were preferred.",
            "All parts were completed and support one conclusion, with the open points listed at the end.",
            "The findings are consistent, and each claim can be traced to the step that made it.",
        ],
    },
    Persona {
        words: &["fact-check", "fact check", "verify claims", "reviewer"],
        openings: ["I checked the claims in “{}”.", "Review of “{}”:", "Fact check for “{}”:"],
        bodies: [
            "Four claims are supported by a source, one is imprecise and was reworded, none is wrong.",
            "The figures add up; one date lacks a source and should be marked as an estimate.",
            "No contradiction was found. Two statements are opinions and are marked as such.",
        ],
    },
    Persona {
        words: &["triage", "classif", "rout"],
        openings: ["Sorted: “{}”.", "Triage of “{}”:", "I looked at “{}”."],
        bodies: [
            "This belongs to the technical team, with normal priority.",
            "This is a billing matter; a reply within one working day is enough.",
            "This affects more than one customer and should go to the on-call engineer.",
        ],
    },
    Persona {
        words: &["health check", "monitor", "probe"],
        openings: ["Health check done: “{}”.", "Status for “{}”:", "All checks ran for “{}”."],
        bodies: [
            "Every service answered in time; nothing needs attention.",
            "All systems are up. The slowest answer was well within its limit.",
            "No failed check, no growing queue, no certificate close to its end.",
        ],
    },
    Persona {
        words: &["daily report", "report"],
        openings: ["Report: “{}”.", "Here is the report on “{}”.", "Summary of the period for “{}”:"],
        bodies: [
            "Volume was in line with the week before, errors stayed below one percent, and no task was lost.",
            "Three things stand out: steady load, shorter waiting times, and one dead letter that was replayed.",
            "The numbers are stable; the only change worth a look is a rise in evening traffic.",
        ],
    },
    Persona {
        words: &["analyst", "analy", "data"],
        openings: ["I analysed “{}”.", "Analysis of “{}”:", "Looking at the data for “{}”:"],
        bodies: [
            "The median moved by three percent and the spread stayed the same, so the change is real but small.",
            "Two groups explain most of the difference; within them the trend is flat.",
            "Growth is concentrated in one segment. Without it the figures match last quarter.",
        ],
    },
    Persona {
        words: &["support", "customer", "help desk"],
        openings: [
            "Thanks for getting in touch about “{}”.",
            "I am happy to help with “{}”.",
            "I looked into “{}” for you.",
        ],
        bodies: [
            "I have noted the details and the next step is on our side; you will hear from us today.",
            "Everything needed is on file, so nothing more is required from you right now.",
            "The matter is being handled, and I will stay with you in this conversation until it is solved.",
        ],
    },
    Persona {
        words: &["writer", "write", "editor", "author"],
        openings: ["Here is a draft on “{}”.", "A first version for “{}”:", "Draft: “{}”."],
        bodies: [
            "It opens with what changed, explains in one paragraph why it matters, and closes with what to do next.",
            "The short answer comes first. The reasons follow in order of weight, and every figure names its source.",
            "The text keeps to plain words, one idea to a paragraph, and ends on the one decision that is open.",
        ],
    },
    Persona {
        words: &[],
        openings: ["About “{}”:", "Here is what I can say on “{}”.", "My answer to “{}”:"],
        bodies: [
            "The essential point is settled; the details depend on choices that are still open.",
            "There are two sound ways to do it, and the simpler one is good enough here.",
            "It can be done in three steps, none of which depends on anything outside.",
        ],
    },
];

/// Phrases an answer to `question`, which has no directives left; `hash` picks the sentences.
pub(super) fn speak(hash: u64, conversation: &Conversation<'_>, question: &str) -> String {
    let persona = persona(conversation.system);
    let pick = |bits: u32| usize::try_from((hash >> bits) % 3).unwrap_or(0);
    let mut answer = persona.openings[pick(7)].replacen("{}", topic(question), 1);
    if let Some(memory) = recall(conversation, question) {
        answer.push(' ');
        answer.push_str(&memory);
    }
    answer.push(' ');
    match conversation.results.last() {
        Some(result) => {
            let result = strip(result);
            answer.push_str(&format!("This rests on what came back: {}", cut(&result, RESULT_CHARS)));
        }
        None => answer.push_str(persona.bodies[pick(23)]),
    }
    answer
}

fn persona(system: &str) -> &'static Persona {
    let mut end = system.len().min(ROLE_BYTES);
    while !system.is_char_boundary(end) {
        end -= 1;
    }
    let role = system[..end].to_ascii_lowercase();
    let found = PERSONAS.iter().find(|persona| persona.words.iter().any(|word| role.contains(word)));
    found.unwrap_or(&PERSONAS[PERSONAS.len() - 1])
}

/// Returns the topic of a question: its first line with words in it, shortened.
fn topic(question: &str) -> &str {
    let line =
        question.lines().map(str::trim).find(|line| line.chars().any(char::is_alphanumeric)).unwrap_or("your request");
    cut(line, TOPIC_CHARS).trim_end_matches(['.', '?', '!', ':', ' '])
}

fn cut(text: &str, chars: usize) -> &str {
    text.char_indices().nth(chars).map_or(text, |(end, _)| &text[..end])
}

/// Finds the earlier statement that a question refers to: a name, or an identifier such as `A-1042`.
fn recall(conversation: &Conversation<'_>, question: &str) -> Option<String> {
    if !question.contains('?') {
        return None;
    }
    let earlier = || conversation.earlier.iter().rev();
    if question.to_ascii_lowercase().contains("my name") {
        return earlier().find_map(|text| name(text)).map(|name| format!("Your name is {name}."));
    }
    if reference(question).is_some() {
        return None;
    }
    earlier()
        .find_map(|text| reference(text))
        .map(|what| format!("You told me about {what} earlier, and that is what this is about."))
}

fn name(text: &str) -> Option<&str> {
    let at = text.to_ascii_lowercase().find("my name is ")?;
    let rest = &text[at + "my name is ".len()..];
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '-').unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}

/// Returns the last identifier of a text: a capital letter or `#` first, and at least two digits.
fn reference(text: &str) -> Option<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '#');
    let names_a_thing = |word: &&str| {
        let word = word.trim_matches('-');
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        let lowercase = word.bytes().any(|byte| byte.is_ascii_lowercase());
        digits >= 2 && !lowercase && word.starts_with(|c: char| c.is_ascii_uppercase() || c == '#')
    };
    words.rev().find(names_a_thing).map(|word| word.trim_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_from_words_and_plain_numbers() {
        for (text, expected) in [
            ("My order A-1042 is late.", Some("A-1042")),
            ("ticket #881, please", Some("#881")),
            ("INV2024 and A-7", Some("INV2024")),
            ("in 2024 there were 15 of them", None),
            ("utf-16 x-200", None),
        ] {
            assert_eq!(reference(text), expected, "{text}");
        }
    }

    #[test]
    fn names_are_remembered() {
        assert_eq!(name("Hi! My name is Ada-Lou, hello"), Some("Ada-Lou"));
        assert_eq!(name("No name here"), None);
    }

    #[test]
    fn roles_sound_different() {
        let spoken = |system: &'static str| {
            let conversation = Conversation { system, first_user: "x", last_user: "x", ..Conversation::default() };
            speak(0, &conversation, "Late parcels.")
        };
        assert!(
            spoken("You are a fact checker. Fact-check everything.")
                .starts_with("I checked the claims in “Late parcels”.")
        );
        assert!(spoken("You are a friendly support agent.").starts_with("Thanks for getting in touch"));
        assert_ne!(spoken(""), spoken("You are a writer."));
    }
}
