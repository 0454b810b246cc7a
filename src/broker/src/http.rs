//! The HTTP listener: `/` (what there is), `/metrics`, `/livez`, `/readyz`, `/tier/status`, `/tier/orphans`.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::json;
use strandline_quorum::Quorum;
use strandline_tiering::collector::SweepMode;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::context::BrokerContext;
use crate::home::{self, Home};
use crate::metrics;
use crate::readiness::{facts, no_leader, reasons};
use crate::settings::Settings;
use crate::tier::look_for_orphans;
use crate::tier::status::PartitionTierStatus;

/// The sources of the pages. The listener answers from the beginning of the start on, with what there is by then.
#[derive(Default)]
pub struct Pages {
    quorum: OnceLock<Arc<Quorum>>,
    broker: OnceLock<Arc<BrokerContext>>,
    node_id: i32,
    is_controller_only: bool,
}

impl Pages {
    pub fn new(settings: &Settings) -> Arc<Self> {
        Arc::new(Self {
            node_id: settings.node_id,
            is_controller_only: !settings.roles.broker,
            ..Self::default()
        })
    }

    pub fn show_quorum(&self, quorum: Arc<Quorum>) {
        let _ = self.quorum.set(quorum);
    }

    pub fn show_broker(&self, broker: Arc<BrokerContext>) {
        let _ = self.broker.set(broker);
    }

    /// Everything that keeps clients from being served.
    fn reasons(&self) -> Vec<String> {
        if let Some(broker) = self.broker.get() {
            return reasons(&facts(broker));
        }
        let Some(quorum) = self.quorum.get() else {
            return vec!["the process is starting: it reads its log directories".to_owned()];
        };
        let mut all = Vec::new();
        if !self.is_controller_only {
            all.push("the process is starting: the broker is not registered yet".to_owned());
        }
        if quorum.leader().0 < 0 {
            all.push(no_leader(&quorum.missing_voters()));
        }
        all
    }
}

pub async fn serve(pages: Arc<Pages>, listener: TcpListener, stop: CancellationToken) {
    let router = Router::new()
        .route("/", get(home_page))
        .route("/metrics", get(page))
        .route("/livez", get(|| async { Json(json!({"status": "alive"})) }))
        .route("/readyz", get(ready))
        .route("/tier/status", get(tier_status))
        .route("/tier/orphans", get(tier_orphans))
        .with_state(pages);
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the HTTP listener ended");
    }
}

async fn home_page(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Html<String> {
    let broker = pages.broker.get();
    let image = pages.quorum.get().map(|quorum| quorum.image());
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    Html(home::page(&Home {
        node_id: pages.node_id,
        cluster_id: image.and_then(|image| image.cluster_id.clone()),
        clients: broker.and_then(|b| b.address_for_clients()),
        http: host.unwrap_or_default().to_owned(),
        has_cold_tier: broker.is_some_and(|b| b.tier.is_some()),
        missing: pages.reasons(),
    }))
}

async fn page(State(pages): State<Arc<Pages>>) -> Response {
    let text = if let Some(broker) = pages.broker.get() {
        metrics::render(broker).await
    } else if let Some(quorum) = pages.quorum.get().filter(|_| pages.is_controller_only) {
        metrics::render_controller(quorum)
    } else {
        return not_yet(&pages);
    };
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

async fn ready(State(pages): State<Arc<Pages>>) -> Response {
    if pages.reasons().is_empty() {
        Json(json!({"status": "ready"})).into_response()
    } else {
        not_yet(&pages)
    }
}

/// `reason` is one line for people, `reasons` has them one by one.
fn not_yet(pages: &Pages) -> Response {
    let reasons = pages.reasons();
    let reason = reasons.join("; ");
    let body = json!({"status": "not ready", "reason": reason, "reasons": reasons});
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

async fn tier_status(State(pages): State<Arc<Pages>>) -> Json<Vec<PartitionTierStatus>> {
    let broker = pages.broker.get();
    let Some((broker, tier)) = broker.and_then(|b| Some((b, b.tier.as_ref()?))) else {
        return Json(Vec::new());
    };
    Json(tier.status.with_new(&broker.partitions.all()))
}

/// The objects that the next sweep would remove. Lists the bucket; removes nothing.
async fn tier_orphans(State(pages): State<Arc<Pages>>) -> Response {
    let broker = pages.broker.get();
    let Some((broker, tier)) = broker.and_then(|b| Some((b, b.tier.as_ref()?))) else {
        let reason = "this broker has no cold tier (remote.log.storage.system.enable)";
        return (StatusCode::NOT_FOUND, Json(json!({"reason": reason}))).into_response();
    };
    match look_for_orphans(broker, tier, SweepMode::DryRun).await {
        Ok(report) => Json(report).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, Json(json!({"reason": error}))).into_response(),
    }
}
