//! A call answered in one piece.

use std::sync::Arc;

use aio_core::RequestRecord;
use aio_serve::{Event, TokenChoice};
use axum::response::Response;
use http::StatusCode;

use super::answers::Answers;
use super::forms::{
    Choice, Decision, Heading, Logprobs, Message, Said, Usage, finish_reason, head,
};
use super::logprobs::{ChatLogprobs, TextLogprobs};
use super::{Call, Kind};
use crate::app::App;
use crate::error::ApiError;
use crate::json;

/// A choice as it comes together.
#[derive(Default)]
struct Collected {
    text: String,
    tokens: Vec<TokenChoice>,
    record: Option<Box<RequestRecord>>,
}

/// Waits for all choices and answers.
pub(super) async fn respond(
    app: &Arc<App>,
    call: &Call,
    mut answers: Answers,
) -> Result<Response, ApiError> {
    let mut collected: Vec<Collected> = Vec::new();
    collected.resize_with(call.requests.len(), Collected::default);
    while let Some((index, event)) = answers.next().await? {
        let choice = &mut collected[index];
        match event {
            Event::Text(more) => {
                choice.text.push_str(&more.text);
                choice.tokens.extend(more.tokens);
            }
            Event::Ended(record) => choice.record = Some(record),
            Event::Planned(_) | Event::Failed(_) => {}
        }
    }
    let number = answers.number(0);
    body(app, call, number, &mut collected)
}

fn body(
    app: &App,
    call: &Call,
    number: u64,
    collected: &mut [Collected],
) -> Result<Response, ApiError> {
    let records: Vec<_> = collected.iter_mut().filter_map(|c| c.record.take()).collect();
    let Some(first) = records.first() else {
        return Err(ApiError::internal("the answer ended before it was whole; ask again"));
    };
    let mut choices = Vec::with_capacity(records.len());
    for (index, (choice, record)) in collected.iter().zip(&records).enumerate() {
        choices.push(Choice {
            index,
            said: said(call.kind, &choice.text),
            logprobs: call.requests[index].logprobs.map(|_| logprobs(call.kind, &choice.tokens)),
            finish_reason: Some(finish_reason(record)?),
        });
    }
    let decisions = call.requests.iter().zip(&records).enumerate();
    let decisions = decisions
        .map(|(index, (request, record))| Decision::ended(index, request.sampling.seed, record));
    let object = match call.kind {
        Kind::Chat => "chat.completion",
        Kind::Text => "text_completion",
    };
    let heading = Heading::new(app, call.kind, number);
    let mut body = heading.body(object, &first.tier.name, choices);
    body.usage = Some(Some(Usage::of(&records, call.choices_per_prompt)));
    body.aio = Decision::with_all(decisions.collect());
    let mut response = json::response(StatusCode::OK, &body);
    head(&mut response, number, &first.tier.name, &first.policy);
    Ok(response)
}

fn said(kind: Kind, text: &str) -> Said<'_> {
    match kind {
        Kind::Chat => Said::Message(Message { role: "assistant", content: text, refusal: None }),
        Kind::Text => Said::Text(text),
    }
}

fn logprobs(kind: Kind, tokens: &[TokenChoice]) -> Logprobs<'_> {
    match kind {
        Kind::Chat => Logprobs::Chat(ChatLogprobs::new(tokens)),
        Kind::Text => Logprobs::Text(TextLogprobs::new(tokens, &mut 0)),
    }
}
