//! The HTTP listener: `/metrics`, `/livez`, `/readyz`, `/tier/status`, `/tier/orphans`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json};
use axum::routing::get;
use serde_json::json;
use strandline_quorum::Quorum;
use strandline_tiering::collector::SweepMode;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::server::BrokerContext;
use crate::tier::look_for_orphans;
use crate::tier::status::PartitionTierStatus;

pub async fn serve(context: Arc<BrokerContext>, listener: TcpListener, stop: CancellationToken) {
    let router = Router::new()
        .route("/metrics", get(page))
        .route("/livez", get(|| async { Json(json!({"status": "alive"})) }))
        .route("/readyz", get(ready))
        .route("/tier/status", get(tier_status))
        .route("/tier/orphans", get(tier_orphans))
        .with_state(context);
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the HTTP listener ended");
    }
}

/// The listener of a process that is a controller only.
pub async fn serve_controller(quorum: Arc<Quorum>, listener: TcpListener, stop: CancellationToken) {
    let router = Router::new()
        .route("/metrics", get(controller_page))
        .route("/livez", get(|| async { Json(json!({"status": "alive"})) }))
        .route("/readyz", get(controller_ready))
        .with_state(quorum);
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the HTTP listener ended");
    }
}

async fn controller_page(State(quorum): State<Arc<Quorum>>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        metrics::render_controller(&quorum),
    )
}

async fn controller_ready(State(quorum): State<Arc<Quorum>>) -> axum::response::Response {
    if quorum.leader().0 >= 0 {
        return Json(json!({"status": "ready"})).into_response();
    }
    let reason = "the metadata quorum has no leader";
    let body = Json(json!({"status": "not ready", "reason": reason}));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

async fn page(State(context): State<Arc<BrokerContext>>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        metrics::render(&context).await,
    )
}

/// Ready: the quorum has a leader, every log is open and no directory has failed. The object store does not count:
/// appends and hot reads work without it.
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

/// The objects that the next sweep would remove. Lists the bucket; removes nothing.
async fn tier_orphans(State(context): State<Arc<BrokerContext>>) -> axum::response::Response {
    let Some(tier) = &context.tier else {
        let reason = "this broker has no cold tier (remote.log.storage.system.enable)";
        return (StatusCode::NOT_FOUND, Json(json!({"reason": reason}))).into_response();
    };
    match look_for_orphans(&context, tier, SweepMode::DryRun).await {
        Ok(report) => Json(report).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, Json(json!({"reason": error}))).into_response(),
    }
}
