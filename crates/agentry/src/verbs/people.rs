//! `clarifications`, `dead-letters`: what waits for a person to decide.

use std::io::Read;

use reqwest::Method;
use serde_json::{Value, json};

use super::{act, list, send};
use crate::cli::{Clarifications, DeadLetters, Edit, Verb};
use crate::failure::Failure;
use crate::out;
use crate::render::{self, Column, at, moment, text};

/// The largest payload that is read from standard input, in bytes: what the API takes as a body.
const MAX_PAYLOAD: u64 = 1 << 20;

const QUESTIONS: &[Column] = &[
    text("id", |question| at(question, "/id")),
    text("agent", |question| at(question, "/agent")),
    text("question", |question| at(question, "/question")),
    text("options", |question| at(question, "/options")),
    text("asked", |question| moment(question, "/asked_at")),
    text("expires", |question| moment(question, "/expires_at")),
];

pub async fn clarifications(verb: Verb<Clarifications>) -> Result<(), Failure> {
    match verb.command.unwrap_or(Clarifications::List(verb.reading)) {
        Clarifications::List(reading) => {
            list(&reading, &["v1", "clarifications"], QUESTIONS, "nobody waits for an answer").await
        }
        Clarifications::Answer(args) => {
            let body = json!({"answer": args.answer, "by": args.by});
            send(&args.server, Method::POST, &["v1", "clarifications", &args.id, "answer"], &body).await?;
            out::line(&format!("{} is answered", args.id))
        }
    }
}

const LETTERS: &[Column] = &[
    text("id", |letter| at(letter, "/id")),
    text("origin", |letter| at(letter, "/origin")),
    text("agent", |letter| at(letter, "/agent")),
    text("given up", |letter| moment(letter, "/created_at")),
    text("code", |letter| at(letter, "/reason/code")),
    text("reason", |letter| at(letter, "/reason/message")),
];

pub async fn dead_letters(verb: Verb<DeadLetters>) -> Result<(), Failure> {
    match verb.command.unwrap_or(DeadLetters::List(verb.reading)) {
        DeadLetters::List(reading) => list(&reading, &["v1", "dead-letters"], LETTERS, "nothing was given up").await,
        DeadLetters::Show(args) => {
            let letter = args.reading.server.client()?.get(&["v1", "dead-letters", &args.id], &[]).await?;
            render::document(args.reading.output, &letter)
        }
        DeadLetters::Replay(args) => {
            act(&args, Method::POST, &["v1", "dead-letters", &args.id, "replay"], "is tried again").await
        }
        DeadLetters::Edit(args) => edit(&args).await,
        DeadLetters::Drop(args) => act(&args, Method::DELETE, &["v1", "dead-letters", &args.id], "is dropped").await,
    }
}

async fn edit(args: &Edit) -> Result<(), Failure> {
    let payload = payload(&args.payload)?;
    send(&args.server, Method::PATCH, &["v1", "dead-letters", &args.id], &json!({"payload": payload})).await?;
    out::line(&format!("{} is changed; replay it with `agentry dead-letters replay {}`", args.id, args.id))
}

fn payload(argument: &str) -> Result<Value, Failure> {
    let text = if argument == "-" {
        let mut text = String::new();
        std::io::stdin()
            .take(MAX_PAYLOAD)
            .read_to_string(&mut text)
            .map_err(|error| Failure::new(format!("cannot read standard input: {error}")))?;
        text
    } else {
        argument.to_owned()
    };
    serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("the payload is not JSON: {error}")).help("quote text: '\"text\"'"))
}
