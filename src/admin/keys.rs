//! `/keys`: the key-encryption keys of the fleet, which one seals, which ones are given up; never their material.

use axum::Json;
use axum::extract::State;

use super::Control;
use super::auth::Caller;
use super::error::{ApiError, ApiProblem};
use super::wire::{ChangedKeyObject, KeyringObject, Named, ProblemDocument};
use crate::domain::id::ScopeId;
use crate::keys::{KeksError, KeyChangeError};

#[utoipa::path(get, path = "/keys", operation_id = "list_keys",
    security(("token" = [])), responses(
    (status = 200, description = "The keys, the active one first", body = KeyringObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(control): State<Control>, caller: Caller) -> Result<Json<KeyringObject>, ApiError> {
    caller.must_operate()?;
    Ok(Json(control.keks.status().await.map_err(unusable)?.into()))
}

#[utoipa::path(post, path = "/keys/{id}/promote", operation_id = "promote_key",
    params(("id" = String, Path, description = "The key")),
    security(("token" = [])), responses(
    (status = 200, description = "It seals; what is under other keys is being put under it", body = ChangedKeyObject),
    (status = 409, description = "A live instance has not loaded it, or it was retired", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn promote(
    State(control): State<Control>,
    caller: Caller,
    Named(id): Named,
) -> Result<Json<ChangedKeyObject>, ApiError> {
    caller.attempt.about(None, ScopeId::parse(&id).ok(), None);
    caller.must_operate()?;
    let done = control.keks.promote(&caller.asker(), &id).await.map_err(told)?;
    (control.on_committed)(&done.changed);
    let next_step = "wait until no row is left under the other keys (GET /keys), then retire those that are to go; \
                     keep a copy of the keyring file that has this key, apart from the database";
    changed(&control, &id, next_step.to_owned()).await
}

#[utoipa::path(delete, path = "/keys/{id}", operation_id = "retire_key",
    params(("id" = String, Path, description = "The key")),
    security(("token" = [])), responses(
    (status = 200, description = "Nothing is stored under it any more", body = ChangedKeyObject),
    (status = 409, description = "It is active, or a row is under it", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn retire(
    State(control): State<Control>,
    caller: Caller,
    Named(id): Named,
) -> Result<Json<ChangedKeyObject>, ApiError> {
    caller.attempt.about(None, ScopeId::parse(&id).ok(), None);
    caller.must_operate()?;
    let done = control.keks.retire(&caller.asker(), &id).await.map_err(told)?;
    (control.on_committed)(&done.changed);
    let next_step = "remove its [[kek]] table from every keyring file, where another one has to say `active = true` \
                     then, and keep it with the backups that were made before: they cannot be read without it";
    changed(&control, &id, next_step.to_owned()).await
}

/// The key as it now stands.
async fn changed(control: &Control, id: &str, next_step: String) -> Result<Json<ChangedKeyObject>, ApiError> {
    let all = control.keks.status().await.map_err(unusable)?;
    let key = all.into_iter().find(|status| status.id == id);
    let key = key.ok_or(ApiProblem::NotFound)?.into();
    Ok(Json(ChangedKeyObject { key, next_step }))
}

fn told(error: KeyChangeError) -> ApiError {
    let problem = match &error {
        KeyChangeError::Keks(error) => return unusable(error.clone()),
        KeyChangeError::Unknown => return ApiProblem::NotFound.into(),
        KeyChangeError::Overtaken => return ApiProblem::Conflict.into(),
        KeyChangeError::NotLoaded(_) => ApiProblem::KeyNotLoaded,
        KeyChangeError::Retired => ApiProblem::KeyRetired,
        KeyChangeError::Active | KeyChangeError::NonePromoted => ApiProblem::KeyActive,
        KeyChangeError::InUse { .. } => ApiProblem::KeyInUse,
    };
    ApiError::with_detail(problem, error.to_string())
}

fn unusable(error: KeksError) -> ApiError {
    match error {
        KeksError::Store(error) => error.into(),
        error => {
            tracing::error!(%error, "the key-encryption keys cannot be used as the store says");
            ApiProblem::Internal.into()
        }
    }
}
