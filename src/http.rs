//! The HTTP server: `/metrics` for Prometheus, `/health` for probes.
//!
//! It reads counters and flags only, so a slow scraper disturbs nobody.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use oxkeeper_proxy::Proxy;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::node_metrics::NodeMetrics;

/// Quantiles of every summary, those of ZooKeeper's Prometheus page.
const SUMMARY_QUANTILES: &[f64] = &[0.5, 0.95, 0.99];

/// How often the recorder folds new samples into its summaries; also bounds what it holds between scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Makes the process count. Call before anything that counts is built: handles made earlier go nowhere.
pub(crate) fn install_recorder() -> anyhow::Result<PrometheusHandle> {
    PrometheusBuilder::new()
        .set_quantiles(SUMMARY_QUANTILES)
        .context("the quantiles are not usable")?
        .install_recorder()
        .context("cannot install the recorder of metrics")
}

/// Keeps the recorder's memory bounded until `shutdown`.
pub(crate) async fn upkeep(recorder: PrometheusHandle, shutdown: CancellationToken) {
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = interval.tick() => recorder.run_upkeep(),
        }
    }
}

/// What the pages show.
pub(crate) struct Pages {
    pub(crate) recorder: PrometheusHandle,
    /// Cancelled when the server no longer takes clients.
    pub(crate) shutdown: CancellationToken,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) node: NodeMetrics,
}

/// Serves the pages until `stopped`; they stay up while the server drains, so that a probe sees it.
pub(crate) async fn serve(listener: TcpListener, pages: Pages, stopped: CancellationToken) {
    let served = axum::serve(listener, router(Arc::new(pages)))
        .with_graceful_shutdown(stopped.cancelled_owned())
        .await;
    if let Err(problem) = served {
        tracing::error!(%problem, "the HTTP server stopped; metrics are no longer served");
    }
}

fn router(pages: Arc<Pages>) -> Router {
    Router::new()
        .route("/metrics", get(metrics_page))
        .route("/health", get(health_page))
        .with_state(pages)
}

async fn metrics_page(State(pages): State<Arc<Pages>>) -> Response {
    pages.proxy.publish_metrics().await;
    pages.node.publish();
    (
        [(header::CONTENT_TYPE, PROMETHEUS_TEXT)],
        pages.recorder.render(),
    )
        .into_response()
}

async fn health_page(State(pages): State<Arc<Pages>>) -> Response {
    let problem = if pages.shutdown.is_cancelled() {
        "shutting down\n"
    } else if !pages.proxy.is_serving() {
        "the shard does not serve\n"
    } else {
        return "ok\n".into_response();
    };
    (StatusCode::SERVICE_UNAVAILABLE, problem).into_response()
}
