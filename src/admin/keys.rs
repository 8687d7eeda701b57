//! `/keys`: which key-encryption keys this instance has loaded; never their material.

use axum::Json;
use axum::extract::State;

use super::Control;
use super::auth::Caller;
use super::error::ApiError;
use super::wire::{KeyObject, KeyringObject, ProblemDocument};

#[utoipa::path(get, path = "/keys", operation_id = "list_keys",
    security(("token" = [])), responses(
    (status = 200, description = "The loaded keys, the active one first", body = KeyringObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(control): State<Control>, caller: Caller) -> Result<Json<KeyringObject>, ApiError> {
    caller.must_operate()?;
    let data = control.keyring.kek_ids().map(|(id, created_at, active)| KeyObject {
        id: id.to_string(),
        created_at: created_at.to_rfc3339(),
        active,
    });
    Ok(Json(KeyringObject { data: data.collect() }))
}
