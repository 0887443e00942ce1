//! The way to a collector: HTTP through `ureq`, on the thread that the batches are sent
//! from. A collector that cannot be reached is told of once, not with every batch.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};

/// How long a batch may take to be sent.
const TIME: Duration = Duration::from_secs(5);

/// Sends spans.
#[derive(Debug)]
pub(super) struct Collector {
    agent: ureq::Agent,
    lost: AtomicBool,
}

impl Collector {
    pub(super) fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIME))
            .build();
        Self { agent: config.into(), lost: AtomicBool::new(false) }
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (parts, body) = request.into_parts();
        let answer = self.agent.run(Request::from_parts(parts, body.to_vec()))?;
        let (parts, mut body) = answer.into_parts();
        Ok(Response::from_parts(parts, body.read_to_vec()?.into()))
    }

    /// Says when the collector is lost, and when it is back.
    fn note(&self, url: &str, trouble: Option<String>) {
        let was_lost = self.lost.swap(trouble.is_some(), Ordering::Relaxed);
        match trouble {
            Some(trouble) if !was_lost => {
                tracing::warn!(
                    "spans are lost: the collector at {url} does not take them: {trouble}"
                );
            }
            None if was_lost => tracing::info!("the collector at {url} takes spans again"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    /// Blocks: the batches have a thread of their own.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let url = request.uri().to_string();
        let answer = self.send(request);
        self.note(
            &url,
            match &answer {
                Ok(answer) if answer.status().is_success() => None,
                Ok(answer) => Some(answer.status().to_string()),
                Err(error) => Some(error.to_string()),
            },
        );
        Ok(answer?)
    }
}
