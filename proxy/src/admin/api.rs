//! The endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::serve::Site;
use super::{State, explain, hotkeys, report};
use crate::reload::Outcome;

/// The page for people: one file, no build chain, nothing fetched from elsewhere.
const PAGE: &str = include_str!("page.html");

/// The page's own script and style and requests to this server; nothing else.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; \
     style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// The full API.
pub(super) fn admin(state: Arc<State>) -> Site {
    let router = Router::new()
        .route("/", get(page))
        .route("/pools", get(pools))
        .route("/hotkeys", get(hot))
        .route("/explain", get(explained))
        .route("/config", get(config))
        .route("/stats", get(stats))
        .route("/reload", post(reload))
        .route("/drain", post(drain))
        .merge(probes())
        .with_state(state);
    Site {
        router,
        guarded: true,
    }
}

/// What may be read from the network.
pub(super) fn status(state: Arc<State>) -> Site {
    Site {
        router: probes().with_state(state),
        guarded: false,
    }
}

fn probes() -> Router<Arc<State>> {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
}

async fn page() -> impl IntoResponse {
    let policy = [(header::CONTENT_SECURITY_POLICY, PAGE_POLICY)];
    (policy, Html(PAGE))
}

async fn metrics(Shared(state): Shared<Arc<State>>) -> Response {
    match state.scrape.text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            let text = format!("metrics cannot be encoded: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

/// Alive: this thread answers. A process that should be restarted does not.
async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(Shared(state): Shared<Arc<State>>) -> (StatusCode, String) {
    match state.unready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn pools(Shared(state): Shared<Arc<State>>) -> impl IntoResponse {
    Json(report::pools(&state.view()))
}

async fn hot(
    Shared(state): Shared<Arc<State>>,
    given: Result<Query<BTreeMap<String, String>>, QueryRejection>,
) -> Response {
    let state = state.view();
    let given = given.map_err(|_| "the query cannot be read".to_owned());
    match given.and_then(|Query(given)| hotkeys::Query::new(&state, given)) {
        Ok(query) => Json(hotkeys::answer(&state, &query)).into_response(),
        Err(why) => (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    }
}

async fn explained(
    Shared(state): Shared<Arc<State>>,
    given: Result<Query<BTreeMap<String, String>>, QueryRejection>,
) -> Response {
    let given = given.map_err(|_| "the query cannot be read".to_owned());
    match given.and_then(|Query(given)| explain::answer(&state, &given)) {
        Ok(text) => text.into_response(),
        Err(why) => (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    }
}

async fn config(Shared(state): Shared<Arc<State>>) -> impl IntoResponse {
    Json(report::config(&state.view().running))
}

async fn stats(Shared(state): Shared<Arc<State>>) -> impl IntoResponse {
    Json(report::stats(&state.view()))
}

/// Go on under what the file says now; answered when every thread was told, or
/// with everything that is wrong with it.
async fn reload(Shared(state): Shared<Arc<State>>) -> (StatusCode, String) {
    let reloads = Arc::clone(state.reloads());
    // A large configuration takes a while, and others want to be answered.
    match tokio::task::spawn_blocking(move || reloads.reload()).await {
        Ok(Outcome::Done(text)) => (StatusCode::OK, text),
        Ok(Outcome::Refused(text)) => (StatusCode::UNPROCESSABLE_ENTITY, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// Tell balancers to go elsewhere; clients that are connected or still come
/// are served until the process is told to end.
async fn drain(Shared(state): Shared<Arc<State>>) -> &'static str {
    tracing::info!("draining: /readyz answers 503 from now on");
    state.set_draining();
    "draining: /readyz answers 503 from now on\n"
}
