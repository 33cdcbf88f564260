//! `clarifications`, `dead-letters`: items that wait for a decision of a person.

use std::io::Read;

use agentry_api::{AnswerRequest, ClarificationView, DeadLetterView, EditRequest, OpenItemQuery};
use serde_json::Value;

use super::{LIST_LIMIT, act, list, show};
use crate::cli::{ClarificationCommand, DeadLetterCommand, EditArgs, ResourceArgs};
use crate::failure::Failure;
use crate::out;
use crate::render::{TableColumn, moment, shown, text};

/// The largest payload that is read from standard input, in bytes: the limit of the API.
const MAX_PAYLOAD: u64 = 1 << 20;

const QUESTIONS: &[TableColumn<ClarificationView>] = &[
    text("id", |it| shown(&it.clarification.id)),
    text("agent", |it| shown(&it.clarification.agent)),
    text("question", |it| shown(&it.clarification.question)),
    text("options", |it| shown(&it.clarification.options)),
    text("asked", |it| moment(it.clarification.asked_at)),
    text("expires", |it| moment(it.clarification.expires_at)),
];

pub async fn clarifications(verb: ResourceArgs<ClarificationCommand>) -> Result<(), Failure> {
    match verb.command.unwrap_or(ClarificationCommand::List(verb.reading)) {
        ClarificationCommand::List(reading) => {
            let call = reading.server.client()?.clarifications(&OpenItemQuery::default());
            list(&reading, call, LIST_LIMIT, QUESTIONS, "nobody waits for an answer").await
        }
        ClarificationCommand::Answer(args) => {
            let answer = AnswerRequest { answer: args.answer, by: Some(args.by) };
            args.server.client()?.answer(&args.id, &answer).await?;
            out::line(&format!("{} is answered", args.id))
        }
    }
}

const LETTERS: &[TableColumn<DeadLetterView>] = &[
    text("id", |it| shown(&it.letter.id)),
    text("origin", |it| shown(&it.letter.origin)),
    text("agent", |it| shown(&it.letter.agent)),
    text("given up", |it| moment(it.letter.created_at)),
    text("code", |it| shown(&it.letter.reason.code)),
    text("reason", |it| shown(&it.letter.reason.message)),
];

pub async fn dead_letters(verb: ResourceArgs<DeadLetterCommand>) -> Result<(), Failure> {
    match verb.command.unwrap_or(DeadLetterCommand::List(verb.reading)) {
        DeadLetterCommand::List(reading) => {
            let call = reading.server.client()?.dead_letters(&OpenItemQuery::default());
            list(&reading, call, LIST_LIMIT, LETTERS, "nothing was given up").await
        }
        DeadLetterCommand::Show(args) => show(&args.reading, args.reading.server.client()?.dead_letter(&args.id)).await,
        DeadLetterCommand::Replay(args) => act(&args, args.server.client()?.replay(&args.id), "is tried again").await,
        DeadLetterCommand::Edit(args) => edit(&args).await,
        DeadLetterCommand::Drop(args) => {
            act(&args, args.server.client()?.drop_dead_letter(&args.id), "is dropped").await
        }
    }
}

async fn edit(args: &EditArgs) -> Result<(), Failure> {
    let payload = payload(&args.payload)?;
    args.server.client()?.edit_dead_letter(&args.id, &EditRequest { payload }).await?;
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
