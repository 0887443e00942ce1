//! A backend that does as a test says: what comes of each request is written down before.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aio_core::{
    Answerer, Draft, Drafter, FinishReason, HostInfo, Load, Plan, PolicyIdentity, RequestFacts,
    RequestRecord, RoundRecord, TierInfo, Totals,
};
use aio_engine::device::DeviceError;
use aio_http::{AnswerEvents, Backend, BoxAnswer};
use aio_policy::PolicyHost;
use aio_serve::{
    Event, Likelihood, PlannedEvent, Refused, Request, SchedulerStatus, ServeError, TextEvent,
    TokenChoice,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What comes of a request.
pub enum Fate {
    /// These texts, a token each.
    Says(&'static [&'static str]),
    /// The same, ended by the limit.
    IsCut(&'static [&'static str]),
    /// No answer.
    Fails(ServeError),
    /// A text, and then no more of it.
    FailsAfter(&'static str, ServeError),
    /// A plan, and then nothing for ever.
    Hangs,
    /// Text without end.
    Floods,
    /// It is not taken.
    Refused(Refused),
    /// The backend lets go of it without a word.
    Vanishes,
}

/// The backend.
#[derive(Clone)]
pub struct Script {
    inner: Arc<Inner>,
}

struct Inner {
    host: HostInfo,
    fates: Mutex<VecDeque<Fate>>,
    requests: Mutex<Vec<Request>>,
    given_up: Arc<AtomicUsize>,
    draining: AtomicBool,
    policies: Option<Arc<PolicyHost>>,
    /// Keeps answers that hang from ending.
    hanging: Mutex<Vec<UnboundedSender<Event>>>,
}

/// Two tiers.
pub fn host() -> HostInfo {
    let tier = |name: &str, parameters| TierInfo {
        name: name.into(),
        parameters,
        weight_bytes: parameters,
        kv_bytes_per_token: 1,
        context: 2048,
        tokenizer: 0,
    };
    HostInfo {
        version: "0".into(),
        device: "script".into(),
        tiers: vec![tier("small", 1), tier("large", 2)],
        max_draft_length: 16,
        max_ngram: 8,
    }
}

impl Script {
    pub fn new(fates: impl IntoIterator<Item = Fate>) -> Self {
        Self::with_policies(fates, None)
    }

    pub fn with_policies(
        fates: impl IntoIterator<Item = Fate>,
        policies: Option<Arc<PolicyHost>>,
    ) -> Self {
        let inner = Inner {
            host: host(),
            fates: Mutex::new(fates.into_iter().collect()),
            requests: Mutex::default(),
            given_up: Arc::default(),
            draining: AtomicBool::new(false),
            policies,
            hanging: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.inner.requests.lock().unwrap().clone()
    }

    /// The only request so far.
    pub fn request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1);
        requests[0].clone()
    }

    /// Answers that were let go of before their end.
    pub fn given_up(&self) -> usize {
        self.inner.given_up.load(Ordering::SeqCst)
    }
}

impl Backend for Script {
    fn submit(&self, request: Request) -> Result<BoxAnswer, Refused> {
        if self.inner.draining.load(Ordering::SeqCst) {
            return Err(Refused::Draining);
        }
        let fate = self.inner.fates.lock().unwrap().pop_front();
        let fate = fate.unwrap_or(Fate::Says(&["Hello", " world"]));
        if let Fate::Refused(refused) = fate {
            return Err(refused);
        }
        let mut requests = self.inner.requests.lock().unwrap();
        requests.push(request.clone());
        let number = requests.len() as u64;
        let (events, received) = unbounded_channel();
        let given_up = Arc::clone(&self.inner.given_up);
        let answer = Scripted { number, events: received, ended: false, given_up };
        if let Some(events) = play(fate, &request, number, events) {
            self.inner.hanging.lock().unwrap().push(events);
        }
        Ok(Box::new(answer))
    }

    fn status(&self) -> SchedulerStatus {
        SchedulerStatus {
            running: 3,
            waiting: 2,
            kv_bytes: 4096,
            kv_budget: Some(8192),
            reused_prefix_tokens: 17,
            preemptions: 5,
            ..SchedulerStatus::default()
        }
    }

    fn host(&self) -> &HostInfo {
        &self.inner.host
    }

    fn policies(&self) -> Option<&Arc<PolicyHost>> {
        self.inner.policies.as_ref()
    }

    fn drain(&self) {
        self.inner.draining.store(true, Ordering::SeqCst);
    }
}

struct Scripted {
    number: u64,
    events: UnboundedReceiver<Event>,
    ended: bool,
    given_up: Arc<AtomicUsize>,
}

impl AnswerEvents for Scripted {
    fn number(&self) -> u64 {
        self.number
    }

    fn next(&mut self) -> futures_util::future::BoxFuture<'_, Option<Event>> {
        Box::pin(async {
            let event = self.events.recv().await;
            self.ended |= matches!(event, None | Some(Event::Ended(_) | Event::Failed(_)));
            event
        })
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        if !self.ended {
            self.given_up.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Sends what a fate has; the sender is returned where there is to be no end.
fn play(
    fate: Fate,
    request: &Request,
    number: u64,
    events: UnboundedSender<Event>,
) -> Option<UnboundedSender<Event>> {
    let send = |event| events.send(event).unwrap();
    let text = |text: &str| Event::Text(said(text, request));
    match fate {
        Fate::Says(parts) | Fate::IsCut(parts) => {
            let finish = match fate {
                Fate::IsCut(_) => FinishReason::Length,
                _ => FinishReason::Stop,
            };
            send(planned(request));
            parts.iter().for_each(|part| send(text(part)));
            send(Event::Ended(Box::new(record(request, number, parts, finish))));
        }
        Fate::Fails(error) => send(Event::Failed(error)),
        Fate::FailsAfter(part, error) => {
            send(planned(request));
            send(text(part));
            send(Event::Failed(error));
        }
        Fate::Hangs => {
            send(planned(request));
            return Some(events);
        }
        Fate::Floods => {
            send(planned(request));
            let much = said(&"much ".repeat(2000), request);
            std::thread::spawn(move || while events.send(Event::Text(much.clone())).is_ok() {});
        }
        Fate::Vanishes => send(planned(request)),
        Fate::Refused(_) => {}
    }
    None
}

fn said(text: &str, request: &Request) -> TextEvent {
    let token = |text: &str, logprob| Likelihood { token: 1, bytes: text.into(), logprob };
    let tokens = request.logprobs.map(|top| TokenChoice {
        chosen: token(text, -0.5),
        top: (0..top).map(|n| token(&format!("t{n}"), -1.0 - n as f32)).collect(),
    });
    TextEvent { text: text.into(), tokens: tokens.into_iter().collect() }
}

/// What a device says that has failed.
pub fn device_error() -> ServeError {
    DeviceError::Memory("the script is out of it".into()).into()
}

pub fn policy() -> PolicyIdentity {
    PolicyIdentity { name: "script".into(), version: "1".into(), digest: "d".into(), generation: 4 }
}

fn plan(request: &Request) -> Plan {
    let tier = request.overrides.tier.unwrap_or(1);
    let draft = request.overrides.draft.unwrap_or(Draft::NONE);
    Plan { tier, draft, ask_every: 0, label: "scripted".into(), reason: "as written".into() }
}

fn planned(request: &Request) -> Event {
    let plan = plan(request);
    let tier = host().tiers[plan.tier as usize].name.clone();
    Event::Planned(Box::new(PlannedEvent { plan, tier, policy: policy(), prompt_tokens: 7 }))
}

fn record(
    request: &Request,
    number: u64,
    parts: &[&str],
    finish_reason: FinishReason,
) -> RequestRecord {
    let plan = plan(request);
    let round = RoundRecord {
        tier: plan.tier,
        drafter: Drafter::Lookup,
        drafted: 4,
        accepted: 1,
        committed: 2,
        rows: 5,
        draft_tier: None,
        draft_passes: 0,
        draft_rows: 0,
        draft_milliseconds: 0.5,
        verify_milliseconds: 2.0,
        action: None,
        reason: String::new(),
    };
    let committed = parts.len() as u32;
    RequestRecord {
        device: String::new(),
        request: number,
        text: parts.concat(),
        token_ids: vec![1; parts.len()],
        prompt_tokens: 7,
        finish_reason,
        tier: Answerer { index: plan.tier, name: host().tiers[plan.tier as usize].name.clone() },
        policy: policy(),
        facts: RequestFacts {
            request: number,
            prompt_tokens: vec![7, 7],
            max_tokens: request.max_tokens as u32,
            temperature: request.sampling.temperature,
            chat: true,
            tiers: Vec::new(),
            load: Load::default(),
            probes: Vec::new(),
        },
        probes: Vec::new(),
        plan,
        speculation_off: None,
        rounds: vec![round],
        totals: Totals { drafted: 4, accepted: 1, committed, ..Totals::default() },
        cached_tokens: 3,
        prefill_rows: 0,
        preemptions: 0,
        memory: Default::default(),
        failures: Vec::new(),
        shadows: Vec::new(),
    }
}
