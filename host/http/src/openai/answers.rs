//! The answers to one call as they come: all choices' events in one row, watched for
//! time limits and measured on the way. Dropping it gives up what is not answered yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use aio_serve::{Event, PlannedEvent, Refused};
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, SelectAll, unfold};

use super::Call;
use crate::app::{App, InFlight};
use crate::backend::BoxAnswer;
use crate::error::ApiError;
use crate::measure::{Progress, Unfinished};
use crate::traces::Trace;

/// The events of all choices.
pub(super) struct Answers {
    app: Arc<App>,
    prompt: &'static str,
    events: SelectAll<BoxStream<'static, (usize, Event)>>,
    /// What came before it was asked for.
    early: VecDeque<(usize, Event)>,
    choices: Vec<Choice>,
    deadline: tokio::time::Instant,
    trace: Trace,
    _in_flight: InFlight,
}

/// What is known of a choice on this side.
struct Choice {
    number: u64,
    progress: Progress,
    ended: bool,
}

impl Answers {
    /// Hands the call's requests over.
    pub(super) fn submit(app: &Arc<App>, call: &Call, trace: Trace) -> Result<Self, ApiError> {
        let backend = app.backend()?;
        let in_flight = app.in_flight();
        let submit = |request: &aio_serve::Request| backend.submit(request.clone());
        // Where one is refused, those before it are given up.
        let answers = call.requests.iter().map(submit).collect::<Result<Vec<_>, _>>();
        let answers = answers.map_err(|refused| refusal(app, &refused))?;
        let choice = |answer: &BoxAnswer| Choice {
            number: answer.number(),
            progress: Progress::start(),
            ended: false,
        };
        Ok(Self {
            app: Arc::clone(app),
            prompt: call.kind.prompt(),
            choices: answers.iter().map(choice).collect(),
            events: answers.into_iter().enumerate().map(|(index, a)| stream(index, a)).collect(),
            early: VecDeque::new(),
            deadline: tokio::time::Instant::now() + app.options.request_timeout,
            trace,
            _in_flight: in_flight,
        })
    }

    /// The request's number behind a choice.
    pub(super) fn number(&self, choice: usize) -> u64 {
        self.choices[choice].number
    }

    /// The first choice's plan. What comes of others meanwhile is kept for
    /// [`Answers::next`], the plan as well.
    pub(super) async fn plan(&mut self) -> Result<PlannedEvent, ApiError> {
        while let Some((choice, event)) = self.receive().await? {
            let plan = match &event {
                Event::Planned(planned) if choice == 0 => Some((**planned).clone()),
                _ => None,
            };
            self.early.push_back((choice, event));
            if let Some(plan) = plan {
                return Ok(plan);
            }
        }
        Err(ended_early())
    }

    /// What happens next, and to which choice; `None` when all have ended.
    pub(super) async fn next(&mut self) -> Result<Option<(usize, Event)>, ApiError> {
        match self.early.pop_front() {
            Some(event) => Ok(Some(event)),
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> Result<Option<(usize, Event)>, ApiError> {
        let next = tokio::time::timeout_at(self.deadline, self.events.next());
        let Ok(next) = next.await else {
            self.give_up(Unfinished::Timeout);
            return Err(ApiError::timeout(self.app.options.request_timeout.as_secs_f64()));
        };
        let Some((index, event)) = next else {
            return if self.choices.iter().all(|choice| choice.ended) {
                Ok(None)
            } else {
                self.give_up(Unfinished::Failed);
                Err(ended_early())
            };
        };
        self.note(index, &event)?;
        Ok(Some((index, event)))
    }

    fn note(&mut self, index: usize, event: &Event) -> Result<(), ApiError> {
        let choice = &mut self.choices[index];
        match event {
            Event::Planned(_) => choice.progress.planned(Instant::now()),
            Event::Text(_) => choice.progress.text(Instant::now()),
            Event::Ended(record) => {
                choice.ended = true;
                self.trace.ended(record, &choice.progress);
                self.app.ended(record, &choice.progress);
            }
            Event::Failed(error) => {
                let error = ApiError::from_failure(error, self.prompt);
                self.give_up(Unfinished::Failed);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Counts what will not be answered, and gives it up.
    fn give_up(&mut self, why: Unfinished) {
        for choice in self.choices.iter_mut().filter(|choice| !choice.ended) {
            choice.ended = true;
            self.trace.unfinished(choice.number, &choice.progress, why);
            self.app.metrics.unfinished(why);
        }
        self.events = SelectAll::new();
    }
}

impl Drop for Answers {
    /// Whoever lets go of it before the end has no client any more.
    fn drop(&mut self) {
        self.give_up(Unfinished::Client);
    }
}

fn stream(index: usize, answer: BoxAnswer) -> BoxStream<'static, (usize, Event)> {
    let next = move |mut answer: BoxAnswer| async move {
        let event = answer.next().await?;
        Some(((index, event), answer))
    };
    unfold(answer, next).boxed()
}

fn refusal(app: &App, refused: &Refused) -> ApiError {
    app.metrics.refused(refused);
    ApiError::from_refusal(refused, app.retry_after(refused))
}

/// The backend let go of a request without a word.
fn ended_early() -> ApiError {
    ApiError::internal("the answer ended before it was whole; ask again")
}
