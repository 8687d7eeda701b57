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
    let data = control.keyring.kek_infos().into_iter().map(|info| KeyObject {
        id: info.id.to_string(),
        created_at: info.created_at.to_rfc3339(),
        active: info.is_active,
    });
    Ok(Json(KeyringObject { data: data.collect() }))
}
