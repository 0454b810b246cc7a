//! The HTTP listener: `/metrics`, `/livez`, `/readyz`, `/tier/status`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::server::BrokerContext;
use crate::tier::status::PartitionTierStatus;

pub async fn serve(context: Arc<BrokerContext>, listener: TcpListener, stop: CancellationToken) {
    let router = Router::new()
        .route("/metrics", get(page))
        .route("/livez", get(|| async { Json(json!({"status": "alive"})) }))
        .route("/readyz", get(ready))
        .route("/tier/status", get(tier_status))
        .with_state(context);
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the HTTP listener ended");
    }
}

async fn page(State(context): State<Arc<BrokerContext>>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        metrics::render(&context),
    )
}

/// Ready: the quorum leads, every log is open and no directory has failed. The object store is not part of it: appends
/// and hot reads go on without.
async fn ready(State(context): State<Arc<BrokerContext>>) -> impl IntoResponse {
    match context.readiness() {
        Ok(()) => (StatusCode::OK, Json(json!({"status": "ready"}))),
        Err(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"status": "not ready", "reason": reason})),
        ),
    }
}

async fn tier_status(State(context): State<Arc<BrokerContext>>) -> Json<Vec<PartitionTierStatus>> {
    Json(
        context
            .tier
            .as_ref()
            .map(|tier| tier.status.all())
            .unwrap_or_default(),
    )
}
