//! A call answered piece by piece: server-sent events, each a chunk, `[DONE]` at the end.
//! Headers go out once the first choice is planned, so that they tell of the plan.

use std::sync::Arc;

use aio_core::RequestRecord;
use aio_serve::{Event, PlannedEvent, TextEvent};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::unfold;
use http::{HeaderValue, header};
use serde::Serialize;
use tokio::sync::mpsc::{Sender, channel};

use super::answers::Answers;
use super::forms::{
    Choice, Completion, Decision, Delta, Heading, Logprobs, Said, Usage, finish_reason, head,
};
use super::logprobs::{ChatLogprobs, TextLogprobs};
use super::{Call, Kind};
use crate::app::App;
use crate::error::ApiError;

/// Events that may wait for a client to read them: a second or two of tokens. When it is
/// full the answer goes on without being sent, and the connection's write timeout runs.
const UNREAD: usize = 64;

/// Waits for the first plan and answers with a stream.
pub(super) async fn respond(
    app: &Arc<App>,
    call: &Call,
    mut answers: Answers,
) -> Result<Response, ApiError> {
    let plan = answers.plan().await?;
    let number = answers.number(0);
    let (events, received) = channel::<Bytes>(UNREAD);
    let chunks = Chunks {
        heading: Heading::new(app, call.kind, number),
        kind: call.kind,
        seeds: call.requests.iter().map(|request| request.sampling.seed).collect(),
        logprobs: call.requests.iter().any(|request| request.logprobs.is_some()),
        include_usage: call.include_usage,
        choices_per_prompt: call.choices_per_prompt,
        streams: call.requests.iter().map(|_| Streaming::default()).collect(),
    };
    tokio::spawn(send(chunks, answers, events));
    let stream = unfold(received, |mut received| async move {
        let event = received.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(event), received))
    });
    let mut response = Body::from_stream(stream).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies that collect answers would defeat the purpose.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    head(&mut response, number, &plan.tier, &plan.policy);
    Ok(response)
}

/// Sends what comes until the end, or until nobody reads it.
async fn send(mut chunks: Chunks, mut answers: Answers, events: Sender<Bytes>) {
    loop {
        let next = tokio::select! {
            // The client went away: what is left is given up.
            () = events.closed() => return,
            next = answers.next() => next,
        };
        let (sent, last) = match next {
            Ok(Some((index, event))) => match chunks.of(index, event, answers.number(index)) {
                Ok(sent) => (sent, false),
                Err(error) => (vec![sse(&error.body())], true),
            },
            Ok(None) => (chunks.end(), true),
            Err(error) => (vec![sse(&error.body())], true),
        };
        for event in sent {
            if events.send(event).await.is_err() {
                return;
            }
        }
        if last {
            return;
        }
    }
}

/// Makes chunks of events.
struct Chunks {
    heading: Heading,
    kind: Kind,
    seeds: Vec<u64>,
    logprobs: bool,
    include_usage: bool,
    choices_per_prompt: usize,
    streams: Vec<Streaming>,
}

/// What is known of a choice so far.
#[derive(Default)]
struct Streaming {
    tier: String,
    /// Characters of its tokens that were sent.
    offset: usize,
    record: Option<Box<RequestRecord>>,
}

impl Chunks {
    fn of(&mut self, index: usize, event: Event, number: u64) -> Result<Vec<Bytes>, ApiError> {
        match event {
            Event::Planned(planned) => Ok(vec![self.planned(index, number, &planned)]),
            Event::Text(more) => Ok(self.text(index, &more).into_iter().collect()),
            Event::Ended(record) => Ok(vec![self.ended(index, record)?]),
            // Comes as an error.
            Event::Failed(_) => Ok(Vec::new()),
        }
    }

    /// The first chunk has the role, and the plan.
    fn planned(&mut self, index: usize, number: u64, planned: &PlannedEvent) -> Bytes {
        self.streams[index].tier.clone_from(&planned.tier);
        let said = match self.kind {
            Kind::Chat => Said::Delta(Delta { role: Some("assistant"), content: Some("") }),
            Kind::Text => Said::Text(""),
        };
        let choice = Choice { index, said, logprobs: None, finish_reason: None };
        let decision = Decision::planned(index, number, self.seeds[index], planned);
        self.chunk(&planned.tier, vec![choice], |chunk| chunk.aio = Some(decision))
    }

    /// More text; nothing where there is nothing to show.
    fn text(&mut self, index: usize, more: &TextEvent) -> Option<Bytes> {
        let tokens = if self.logprobs { more.tokens.as_slice() } else { &[] };
        if more.text.is_empty() && tokens.is_empty() {
            return None;
        }
        let stream = &mut self.streams[index];
        let logprobs = self.logprobs.then(|| match self.kind {
            Kind::Chat => Logprobs::Chat(ChatLogprobs::new(tokens)),
            Kind::Text => Logprobs::Text(TextLogprobs::new(tokens, &mut stream.offset)),
        });
        let said = match self.kind {
            Kind::Chat => Said::Delta(Delta { role: None, content: Some(&more.text) }),
            Kind::Text => Said::Text(&more.text),
        };
        let choice = Choice { index, said, logprobs, finish_reason: None };
        let tier = &self.streams[index].tier;
        Some(self.chunk(tier, vec![choice], |_| {}))
    }

    /// A choice's last chunk has the reason, and what came of the plan.
    fn ended(&mut self, index: usize, record: Box<RequestRecord>) -> Result<Bytes, ApiError> {
        let said = match self.kind {
            Kind::Chat => Said::Delta(Delta::default()),
            Kind::Text => Said::Text(""),
        };
        let finish_reason = Some(finish_reason(&record)?);
        let choice = Choice { index, said, logprobs: None, finish_reason };
        let decision = Decision::ended(index, self.seeds[index], &record);
        let chunk = self.chunk(&record.tier.name, vec![choice], |chunk| chunk.aio = Some(decision));
        self.streams[index].record = Some(record);
        Ok(chunk)
    }

    /// The usage, if it is wanted, and the end.
    fn end(&mut self) -> Vec<Bytes> {
        let mut last = Vec::new();
        if self.include_usage {
            let records: Vec<_> =
                self.streams.iter_mut().filter_map(|stream| stream.record.take()).collect();
            let usage = Usage::of(&records, self.choices_per_prompt);
            let tier = records.first().map_or("", |record| &record.tier.name);
            last.push(self.chunk(tier, Vec::new(), |chunk| chunk.usage = Some(Some(usage))));
        }
        last.push(Bytes::from_static(b"data: [DONE]\n\n"));
        last
    }

    fn chunk<'a>(
        &'a self,
        tier: &'a str,
        choices: Vec<Choice<'a>>,
        add: impl FnOnce(&mut Completion<'a>),
    ) -> Bytes {
        let object = match self.kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Text => "text_completion",
        };
        let mut chunk = self.heading.body(object, tier, choices);
        chunk.usage = self.include_usage.then_some(None);
        add(&mut chunk);
        sse(&chunk)
    }
}

/// One server-sent event.
fn sse(data: &impl Serialize) -> Bytes {
    match serde_json::to_string(data) {
        Ok(json) => format!("data: {json}\n\n").into(),
        // Types of ours with string keys: there is nothing in them that JSON has no
        // form for.
        Err(error) => {
            tracing::error!("a chunk has no JSON: {error}");
            Bytes::new()
        }
    }
}
