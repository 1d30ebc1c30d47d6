//! The HTTP server: `/metrics` for Prometheus, `/health` for probes.
//!
//! It must take nothing from ZooKeeper's clients, who share this process's file descriptors: there are few
//! connections, each is one request within a time, and the oldest makes room for a new one. So those
//! who connect and say nothing harm nobody, not even the next scrape.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use oxkeeper_proxy::Proxy;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::limits::{
    HEALTHY_ANSWER_TIME_MAX, HTTP_ACCEPT_PAUSE, HTTP_CONNECTION_TIME_MAX, HTTP_CONNECTIONS_MAX,
    HTTP_HEAD_BYTES_MAX,
};
use crate::metrics_page;

/// What the pages show.
pub(crate) struct Pages {
    /// Cancelled when the server no longer takes clients.
    pub(crate) shutdown: CancellationToken,
    pub(crate) proxy: Arc<Proxy>,
}

/// Serves the pages until `stopped`; they stay up while the server drains, so that a probe sees it.
pub(crate) async fn serve(listener: TcpListener, pages: Pages, stopped: CancellationToken) {
    let router = router(Arc::new(pages));
    let mut places = Places::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                places.make_room().await;
                places.take(answer(stream, router.clone()));
            }
            Err(problem) => {
                tracing::warn!(%problem, "cannot accept an HTTP connection");
                tokio::time::sleep(HTTP_ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One request. What goes wrong is the client's affair: there is nobody else to tell.
async fn answer(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HTTP_HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let _ = tokio::time::timeout(HTTP_CONNECTION_TIME_MAX, connection).await;
}

/// Open connections, the oldest first. Invariant: at most [`HTTP_CONNECTIONS_MAX`].
#[derive(Default)]
struct Places {
    taken: VecDeque<JoinHandle<()>>,
}

impl Places {
    async fn make_room(&mut self) {
        self.taken.retain(|connection| !connection.is_finished());
        if self.taken.len() < HTTP_CONNECTIONS_MAX {
            return;
        }
        if let Some(oldest) = self.taken.pop_front() {
            oldest.abort();
            // Until it is gone, so that its file descriptor is free.
            let _ = oldest.await;
        }
    }

    fn take(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        self.taken.push_back(tokio::spawn(connection));
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.taken.iter().for_each(JoinHandle::abort);
    }
}

fn router(pages: Arc<Pages>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .with_state(pages)
}

async fn metrics(State(pages): State<Arc<Pages>>) -> Response {
    let page = metrics_page::text(&pages.proxy.samples().await);
    ([(header::CONTENT_TYPE, metrics_page::CONTENT_TYPE)], page).into_response()
}

async fn health(State(pages): State<Arc<Pages>>) -> Response {
    let problem = if pages.shutdown.is_cancelled() {
        "shutting down\n".to_owned()
    } else {
        match pages.proxy.check(HEALTHY_ANSWER_TIME_MAX).await {
            Ok(()) => return "ok\n".into_response(),
            Err(unwell) => format!("{unwell}\n"),
        }
    };
    (StatusCode::SERVICE_UNAVAILABLE, problem).into_response()
}
