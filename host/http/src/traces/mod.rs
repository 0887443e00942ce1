//! Traces of requests for an OpenTelemetry collector: one span for the HTTP request, in it
//! one for each answer, in that one for each of its phases. Names of attributes follow
//! OpenTelemetry's conventions for HTTP and for generative models; what those do not have
//! is under `aio.`.
//!
//! Everything is written when an answer ends, from its record and the times that its
//! client saw: a running answer pays nothing for it. Prompts and answers are never sent.

mod collector;
mod span;

use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};

use self::collector::Collector;
use crate::options::TraceOptions;

/// Makes traces, where they are wanted.
pub(crate) struct Traces(Option<Sending>);

struct Sending {
    provider: SdkTracerProvider,
    tracer: Arc<SdkTracer>,
}

/// The trace of one HTTP request; cheap to clone. Its span ends when the last clone goes:
/// the answer may be streamed long after its head is.
#[derive(Clone, Default)]
pub(crate) struct Trace(Option<Open>);

#[derive(Clone)]
struct Open {
    tracer: Arc<SdkTracer>,
    /// The HTTP request's span.
    context: Context,
}

impl Traces {
    /// Sends to the collector that the options name; makes no traces where they name none.
    ///
    /// # Errors
    /// One sentence, when an option is out of its range.
    pub(crate) fn new(options: &TraceOptions) -> Result<Self, String> {
        options.check()?;
        let Some(url) = options.url()? else { return Ok(Self(None)) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new())
            .with_endpoint(url.to_string())
            .build()
            .map_err(|error| format!("spans cannot be sent to {url}: {error}"))?;
        let resource = Resource::builder()
            .with_service_name(options.service.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(options.ratio)));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(resource)
            .build();
        let tracer = Arc::new(provider.tracer("aio"));
        Ok(Self(Some(Sending { provider, tracer })))
    }

    /// Begins a request's trace: the client's, where it says that it has one.
    pub(crate) fn begin<B>(&self, request: &Request<B>, route: &str) -> Trace {
        let Some(Sending { tracer, .. }) = &self.0 else { return Trace(None) };
        // What only watches the server would bury what is asked of it.
        if !route.starts_with("/v1/") {
            return Trace(None);
        }
        let from = HeaderExtractor(request.headers());
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &from);
        let span = tracer
            .span_builder(format!("{} {route}", request.method()))
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("http.request.method", request.method().to_string()),
                KeyValue::new("http.route", route.to_owned()),
                KeyValue::new("url.path", request.uri().path().to_owned()),
            ])
            .start_with_context(tracer.as_ref(), &parent);
        Trace(Some(Open { tracer: Arc::clone(tracer), context: parent.with_span(span) }))
    }

    /// Sends what is left and ends, within a time.
    pub(crate) fn end(&self, within: Duration) {
        if let Some(Sending { provider, .. }) = &self.0
            && let Err(error) = provider.shutdown_with_timeout(within)
        {
            tracing::warn!("the last spans were not sent: {error}");
        }
    }
}

impl Trace {
    /// The head of the answer is known.
    pub(crate) fn answered(&self, status: StatusCode) {
        let Some(Open { context, .. }) = &self.0 else { return };
        let span = context.span();
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
        // By the conventions, what is the client's mistake is no error of the server.
        if status.is_server_error() {
            span.set_attribute(KeyValue::new("error.type", status.as_str().to_owned()));
            span.set_status(Status::error(""));
        }
    }
}
