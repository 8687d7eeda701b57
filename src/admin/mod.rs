//! The control plane: the REST API under `/api/v1` (contract, section 7), one file per resource.

mod alerts;
mod audit;
mod auth;
mod consents;
mod error;
mod explain;
mod extensions;
mod gate;
mod idempotency;
mod installations;
mod keys;
mod limits;
mod operations;
mod page;
mod place;
mod policies;
mod providers;
mod report;
mod sdk;
mod secrets;
mod tokens;
mod versions;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::audit::Recorder;
use crate::bundles::Bundles;
use crate::clock::Clock;
use crate::crypto::keyring::Keyring;
use crate::domain::change::OnCommitted;
use crate::keys::Keks;
use crate::registry::{Registry, Tokens};
use crate::secrets::explain::SecretExplainer;
use crate::secrets::manage::SecretManager;
use crate::secrets::providers::ProviderBook;
use crate::secrets::refresh::SecretRefresher;
use crate::store::SharedStore;
use error::{ApiError, ApiProblem};

/// The most bytes of a request's body: many secrets at once, each up to 64 KiB.
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How much each token may ask for.
pub struct ApiRateLimit(limits::RateLimit<String>);

impl ApiRateLimit {
    /// So many requests a second, and so many at once.
    #[must_use]
    pub fn new(per_second: usize, burst: usize) -> Self {
        Self(limits::RateLimit::new(per_second, burst))
    }
}

/// What peers owe for wrong tokens.
#[derive(Default)]
pub struct WrongTokenCounts(limits::WrongTokens);

/// What the control plane works on.
#[derive(Clone)]
pub struct Control {
    /// Where tokens are looked up.
    pub store: SharedStore,
    /// Hashes tokens and authenticates cursors.
    pub keyring: Arc<Keyring>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Extensions and installations.
    pub registry: Arc<Registry>,
    /// Where references are looked up.
    pub providers: Arc<ProviderBook>,
    /// Secrets.
    pub secrets: Arc<SecretManager>,
    /// What keeps the audit log whole.
    pub recorder: Arc<Recorder>,
    /// Where values come from.
    pub explainer: Arc<SecretExplainer>,
    /// Fetches references.
    pub refresher: Arc<SecretRefresher>,
    /// API tokens.
    pub tokens: Arc<Tokens>,
    /// Key-encryption keys.
    pub keks: Arc<Keks>,
    /// What this instance delivers from memory.
    pub bundles: Bundles,
    /// How much each token may ask for.
    pub rate_limit: Arc<ApiRateLimit>,
    /// What peers owe for wrong tokens.
    pub wrong_tokens: Arc<WrongTokenCounts>,
    /// Whether this plane is served over TLS.
    pub is_tls: bool,
    /// Called after a commit and before its answer: what this instance has cached is dropped.
    pub on_committed: OnCommitted,
    /// The first operator's token, valid while no other is stored.
    pub bootstrap_token_hash: Option<[u8; 32]>,
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Kiket Secret Store",
    description = "Extensions, installations and their secrets. No answer ever holds a plaintext value.",
    license(name = "Apache-2.0", identifier = "Apache-2.0")
))]
struct Document;

fn routes() -> (Router<Control>, utoipa::openapi::OpenApi) {
    let api = OpenApiRouter::new()
        .routes(routes!(secrets::list, secrets::set))
        .routes(routes!(secrets::get, secrets::delete))
        .routes(routes!(versions::rotate))
        .routes(routes!(versions::link))
        .routes(routes!(versions::refresh))
        .routes(routes!(versions::rollback))
        .routes(routes!(explain::explain))
        .routes(routes!(report::report))
        .routes(routes!(extensions::list))
        .routes(routes!(extensions::put, extensions::get))
        .routes(routes!(sdk::list, sdk::set))
        .routes(routes!(sdk::get, sdk::set_by_key, sdk::delete))
        .routes(routes!(installations::list, installations::install))
        .routes(routes!(
            installations::get,
            installations::patch,
            installations::uninstall
        ))
        .routes(routes!(consents::confirm_destination))
        .routes(routes!(consents::accept_keys))
        .routes(routes!(tokens::list, tokens::make))
        .routes(routes!(tokens::remove))
        .routes(routes!(keys::list))
        .routes(routes!(keys::promote))
        .routes(routes!(keys::retire))
        .routes(routes!(audit::list))
        .routes(routes!(audit::verify))
        .routes(routes!(policies::get, policies::put))
        .routes(routes!(providers::list))
        .routes(routes!(providers::put, providers::get, providers::delete))
        .routes(routes!(providers::check))
        .routes(routes!(alerts::list))
        .routes(routes!(alerts::acknowledge))
        .routes(routes!(alerts::health));
    let (router, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .nest("/api/v1", api)
        .split_for_parts();
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    document
        .components
        .get_or_insert_default()
        .add_security_scheme("token", bearer);
    (router, document)
}

/// The OpenAPI 3.1 document, generated from the handlers.
#[must_use]
pub fn openapi() -> String {
    routes().1.to_pretty_json().unwrap_or_default() // a document of texts always serializes
}

/// All routes.
pub fn router(control: Control) -> Router {
    let (router, document) = routes();
    let document = document.to_json().unwrap_or_default();
    let serve_document = move || {
        let document = document.clone();
        async move { ([("content-type", "application/json")], document) }
    };
    router
        .route_layer(middleware::from_fn_with_state(control.clone(), gate::pass))
        .route("/api/v1/openapi.json", get(serve_document))
        .fallback(async || ApiError::from(ApiProblem::NotFound).into_response())
        .method_not_allowed_fallback(async || ApiError::from(ApiProblem::MethodNotAllowed).into_response())
        .layer(middleware::from_fn_with_state(control.clone(), operations::record))
        .layer(middleware::from_fn_with_state(control.clone(), auth::refuse_browsers))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(control)
}
