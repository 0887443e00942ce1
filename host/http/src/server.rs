//! Listening, connections, and the server's life: it listens, becomes ready, drains and
//! ends. Knows no routes' insides.
//!
//! Connections are HTTP/1.1 through hyper's own builder, which bounds the time and size of
//! heads; clients of OpenAI's interface speak nothing else without TLS, which is left to a
//! proxy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::app::{App, Phase};
use crate::backend::Backend;
use crate::options::{AdminOptions, ServerOptions, TraceOptions};
use crate::routes;
use crate::socket::Socket;
use crate::traces::Traces;

/// Connections of the operator at once.
const ADMIN_CONNECTIONS: usize = 16;
/// How long the last bytes of answers may take to go out when the server ends.
const LAST_BYTES: Duration = Duration::from_secs(2);
/// How long the last spans may take to reach their collector.
const LAST_SPANS: Duration = Duration::from_secs(2);
/// How long is waited when the system has no socket to give, as others may close.
const BREATH: Duration = Duration::from_millis(50);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An option is out of range.
    #[error("{0}")]
    Option(String),
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All requests were answered.
    Drained,
    /// Some were given up, because the time was over or somebody would not wait.
    GivenUp,
}

/// A server that listens.
pub struct Server {
    app: Arc<App>,
    public: TcpListener,
    admin: Option<TcpListener>,
}

/// What can be done to a server while it runs; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    app: Arc<App>,
}

impl Handle {
    /// Takes requests from now on, and has them answered by this.
    pub fn ready(&self, backend: impl Backend) {
        self.app.ready(Arc::new(backend));
    }

    /// Takes no more requests. When those taken are answered, or the time for that is
    /// over, [`Server::run`] ends.
    pub fn drain(&self) {
        self.app.drain();
    }

    /// Ends now: what is not answered is given up.
    pub fn stop(&self) {
        self.app.drain();
        self.app.advance(Phase::Stopping);
    }
}

impl Server {
    /// Listens, on the operator's address as well.
    ///
    /// # Errors
    /// When an option is out of range or an address cannot be had.
    pub async fn bind(
        options: ServerOptions,
        admin: AdminOptions,
        traces: &TraceOptions,
    ) -> Result<Self, BindError> {
        options.check().map_err(BindError::Option)?;
        admin.check().map_err(BindError::Option)?;
        let traces = Traces::new(traces).map_err(BindError::Option)?;
        let public = listen(options.listen).await?;
        let admin_listener = match admin.enabled {
            true => Some(listen(admin.listen).await?),
            false => None,
        };
        let app = Arc::new(App::new(options, &admin, traces));
        Ok(Self { app, public, admin: admin_listener })
    }

    /// What can be done to it.
    pub fn handle(&self) -> Handle {
        Handle { app: Arc::clone(&self.app) }
    }

    /// The address that it listens on: where port 0 was asked for, the one that was had.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.public.local_addr()
    }

    /// The operator's address, if there is one.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn admin_address(&self) -> io::Result<Option<SocketAddr>> {
        self.admin.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// Serves until it is told to end.
    pub async fn run(self) -> Ended {
        let Self { app, public, admin } = self;
        let most = app.options.max_connections;
        let mut listeners = JoinSet::new();
        listeners.spawn(accept(Arc::clone(&app), public, routes::public(&app), most));
        if let Some(admin) = admin {
            let routes = routes::administration(&app);
            listeners.spawn(accept(Arc::clone(&app), admin, routes, ADMIN_CONNECTIONS));
        }
        wait_for(&app, Phase::Draining).await;
        // Meanwhile it still says that it is not ready, and refuses with a reason.
        let ended = tokio::select! {
            done = timeout(app.options.drain_timeout, app.idle()) => match done {
                Ok(()) => Ended::Drained,
                Err(_) => Ended::GivenUp,
            },
            () = wait_for(&app, Phase::Stopping) => Ended::GivenUp,
        };
        app.advance(Phase::Stopping);
        while listeners.join_next().await.is_some() {}
        let last_spans = tokio::task::spawn_blocking(move || app.traces.end(LAST_SPANS));
        // It ends by itself, and nobody depends on it.
        let _ = last_spans.await;
        ended
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError::Listen { address, source })
}

async fn wait_for(app: &App, phase: Phase) {
    // The sender lives as long as the borrowed value.
    let _ = app.phase.subscribe().wait_for(|now| *now as u8 >= phase as u8).await;
}

/// Takes connections, and closes them when the server ends.
async fn accept(app: Arc<App>, listener: TcpListener, routes: Router, most: usize) {
    let places = Arc::new(Semaphore::new(most));
    let mut connections = JoinSet::new();
    loop {
        let next = tokio::select! {
            next = next_connection(&listener, &places) => next,
            () = wait_for(&app, Phase::Stopping) => break,
        };
        while connections.try_join_next().is_some() {}
        let Some((stream, place)) = next else { continue };
        connections.spawn(serve(Arc::clone(&app), stream, routes.clone(), place));
    }
    drop(listener);
    let closed = async { while connections.join_next().await.is_some() {} };
    // Whatever is open after that is closed with its task.
    let _ = timeout(LAST_BYTES, closed).await;
}

/// The next connection, once there is a place for it.
async fn next_connection(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    // It is never closed.
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!("a connection could not be taken: {error}");
            sleep(BREATH).await;
            None
        }
    }
}

/// Serves one connection to its end.
async fn serve(app: Arc<App>, stream: TcpStream, routes: Router, _place: OwnedSemaphorePermit) {
    // Tokens are to arrive as they come; without it they only come later.
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(Socket::new(stream, app.options.write_timeout));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.options.header_timeout)
        .max_buf_size(app.options.max_header_bytes)
        .serve_connection(io, TowerToHyperService::new(routes));
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = wait_for(&app, Phase::Stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!("a connection ended early: {error}");
    }
}
