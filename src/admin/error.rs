//! What a client of the control plane is told when something goes wrong: the one map from errors to answers.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::wire::ProblemDocument;
use crate::domain::key::SecretKey;
use crate::registry::RegistryError;
use crate::secrets::manage::ManageError;
use crate::secrets::providers::ProvidersError;
use crate::secrets::refresh::RefreshError;
use crate::secrets::resolve::ResolveError;
use crate::store::StoreError;

/// The problems of this plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ApiProblem {
    Malformed,
    Unauthenticated,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Conflict,
    RequiredSecretsMissing,
    NoPreviousVersion,
    NotExternal,
    ProviderMissing,
    TooManyProviders,
    DanglingReference,
    ReferenceDenied,
    CounterExhausted,
    LastOperatorToken,
    KeyNotLoaded,
    KeyActive,
    KeyInUse,
    KeyRetired,
    RequestUnderWay,
    PlaintextNeverReturned,
    RateLimited,
    VersionMismatch,
    TooLarge,
    MediaType,
    InvalidField,
    InvalidManifest,
    DestinationRefused,
    Internal,
    SourceUnavailable,
    StoreUnavailable,
    StoreFull,
}

impl ApiProblem {
    /// Name, status, title.
    const fn row(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::Malformed => ("malformed-request", 400, "The request cannot be read"),
            Self::Unauthenticated => ("unauthenticated", 401, "A valid token is needed"),
            Self::Forbidden => ("forbidden", 403, "The token's role does not allow this"),
            Self::NotFound => ("not-found", 404, "There is no such thing"),
            Self::MethodNotAllowed => ("method-not-allowed", 405, "This method does nothing here"),
            Self::Conflict => ("conflict", 409, "It is there already, or was changed meanwhile"),
            Self::RequiredSecretsMissing => ("required-secrets-missing", 409, "Required keys have no value"),
            Self::NoPreviousVersion => ("no-previous-version", 409, "There is no version to go back to"),
            Self::NotExternal => ("not-external", 409, "The value stands here: there is nothing to fetch"),
            Self::ProviderMissing => ("provider-missing", 409, "No provider is configured for the reference"),
            Self::TooManyProviders => ("too-many-providers", 409, "The organization has as many as it may"),
            Self::DanglingReference => ("dangling-reference", 409, "The reference points to nothing"),
            Self::ReferenceDenied => ("reference-denied", 409, "The provider may not read the reference"),
            Self::CounterExhausted => ("counter-exhausted", 409, "Its version is at its limit"),
            Self::LastOperatorToken => (
                "last-operator-token",
                409,
                "Without this token nobody could make another",
            ),
            Self::KeyNotLoaded => ("key-not-loaded", 409, "Not every instance has loaded the key"),
            Self::KeyActive => ("key-active", 409, "The key is in use for sealing"),
            Self::KeyInUse => ("key-in-use", 409, "Something is still sealed under the key"),
            Self::KeyRetired => ("key-retired", 409, "A retired key does not come back"),
            Self::RequestUnderWay => ("request-under-way", 409, "The request of this name is not done yet"),
            Self::PlaintextNeverReturned => ("plaintext-never-returned", 403, "Values are never returned"),
            Self::RateLimited => ("rate-limited", 429, "Too many requests"),
            Self::VersionMismatch => ("version-mismatch", 412, "It is not at the version of If-Match"),
            Self::TooLarge => ("payload-too-large", 413, "The request is too large"),
            Self::MediaType => ("unsupported-media-type", 415, "This type of content is not read here"),
            Self::InvalidField => ("invalid-field", 422, "A field is missing or cannot be accepted"),
            Self::InvalidManifest => ("invalid-manifest", 422, "The manifest cannot be accepted"),
            Self::DestinationRefused => ("destination-refused", 422, "Nothing can be sent there"),
            Self::Internal => ("internal", 500, "The sidecar failed"),
            Self::SourceUnavailable => (
                "secret-source-unavailable",
                503,
                "The secret's source cannot say at the moment",
            ),
            Self::StoreUnavailable => ("store-unavailable", 503, "The store does not answer"),
            Self::StoreFull => ("store-full", 507, "The store is full"),
        }
    }
}

/// An answer that is a problem document (RFC 9457). Every text in it is fixed.
#[derive(Debug)]
pub(super) struct ApiError {
    problem: ApiProblem,
    detail: Option<String>,
    field: Option<&'static str>,
    missing: Vec<SecretKey>,
    retry_after: Option<u64>,
}

impl ApiError {
    /// Too much of something: again after so many seconds.
    pub(super) fn later(seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..ApiProblem::RateLimited.into()
        }
    }

    /// A problem with a sentence of its own. `detail` must not hold input.
    pub(super) fn with_detail(problem: ApiProblem, detail: impl Into<String>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..problem.into()
        }
    }

    /// A field that cannot be accepted, and why.
    pub(super) fn field(field: &'static str, detail: impl std::fmt::Display) -> Self {
        Self {
            field: Some(field),
            ..Self::with_detail(ApiProblem::InvalidField, detail.to_string())
        }
    }

    /// A write that lost against another: against the client's own `If-Match`, or not.
    pub(super) fn conflict(if_match: Option<u64>) -> Self {
        if if_match.is_some() {
            ApiProblem::VersionMismatch.into()
        } else {
            ApiProblem::Conflict.into()
        }
    }

    /// What became of a write to the registry, which may have lost against another.
    pub(super) fn written<T>(stored: Result<T, RegistryError>, if_match: Option<u64>) -> Result<T, Self> {
        stored.map_err(|error| match error {
            RegistryError::Conflict => Self::conflict(if_match),
            other => other.into(),
        })
    }
}

impl From<ApiProblem> for ApiError {
    fn from(problem: ApiProblem) -> Self {
        Self {
            problem,
            detail: None,
            field: None,
            missing: Vec::new(),
            retry_after: match problem {
                ApiProblem::StoreUnavailable | ApiProblem::SourceUnavailable => Some(2),
                ApiProblem::RateLimited => Some(1),
                _ => None,
            },
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict => ApiProblem::Conflict,
            StoreError::Unavailable => ApiProblem::StoreUnavailable,
            StoreError::Full => ApiProblem::StoreFull,
            StoreError::Damaged => ApiProblem::Internal,
        }
        .into()
    }
}

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Store(error) => error.into(),
            RegistryError::Unknown => ApiProblem::NotFound.into(),
            RegistryError::Conflict => ApiProblem::Conflict.into(),
            RegistryError::Manifest(error) => Self::with_detail(ApiProblem::InvalidManifest, error.to_string()),
            RegistryError::IdMismatch => Self::with_detail(ApiProblem::InvalidManifest, error.to_string()),
            RegistryError::Policy(error) => Self::field(error.field, error),
            RegistryError::DestinationRefused(error) => {
                Self::with_detail(ApiProblem::DestinationRefused, error.to_string())
            }
            RegistryError::NotAsSeen => Self::with_detail(ApiProblem::Conflict, error.to_string()),
            RegistryError::RequiredMissing(missing) => Self {
                missing,
                ..ApiProblem::RequiredSecretsMissing.into()
            },
            RegistryError::Exhausted => ApiProblem::CounterExhausted.into(),
            RegistryError::Tampered | RegistryError::Internal => {
                tracing::error!(%error, "a record of the registry cannot be used");
                ApiProblem::Internal.into()
            }
        }
    }
}

impl From<ProvidersError> for ApiError {
    fn from(error: ProvidersError) -> Self {
        match error {
            ProvidersError::Store(error) => error.into(),
            ProvidersError::Unknown => ApiProblem::NotFound.into(),
            ProvidersError::Conflict => ApiProblem::Conflict.into(),
            ProvidersError::Count => Self::with_detail(ApiProblem::TooManyProviders, error.to_string()),
            ProvidersError::Destination(error) => Self {
                field: Some("address"),
                ..Self::with_detail(ApiProblem::DestinationRefused, error.to_string())
            },
            ProvidersError::Busy => Self::later(1),
            ProvidersError::Exhausted => ApiProblem::CounterExhausted.into(),
            ProvidersError::Credential(ResolveError::Unrecorded) => ApiProblem::StoreUnavailable.into(),
            ProvidersError::Tampered | ProvidersError::Credential(_) => {
                tracing::error!(%error, "a provider cannot be used");
                ApiProblem::Internal.into()
            }
        }
    }
}

impl From<ManageError> for ApiError {
    fn from(error: ManageError) -> Self {
        match error {
            ManageError::Store(error) => error.into(),
            ManageError::Value => Self::field("value", error),
            ManageError::Count => Self::field("secrets", error),
            ManageError::Unknown => ApiProblem::NotFound.into(),
            ManageError::Conflict => ApiProblem::Conflict.into(),
            ManageError::NoPredecessor => ApiProblem::NoPreviousVersion.into(),
            ManageError::PartnerReference => Self::field("external_secret_name", error),
            ManageError::Exhausted => ApiProblem::CounterExhausted.into(),
            ManageError::Seal => {
                tracing::error!(%error, "a secret cannot be written");
                ApiProblem::Internal.into()
            }
        }
    }
}

impl From<ResolveError> for ApiError {
    fn from(error: ResolveError) -> Self {
        RefreshError::from(error).into()
    }
}

impl From<RefreshError> for ApiError {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::Store(error) => error.into(),
            RefreshError::Unknown => ApiProblem::NotFound.into(),
            RefreshError::NotExternal => ApiProblem::NotExternal.into(),
            RefreshError::NoProvider => ApiProblem::ProviderMissing.into(),
            RefreshError::Dangling => ApiProblem::DanglingReference.into(),
            RefreshError::Denied => Self::with_detail(ApiProblem::ReferenceDenied, error.to_string()),
            RefreshError::Unavailable(_) => Self::with_detail(ApiProblem::SourceUnavailable, error.to_string()),
            RefreshError::Source => {
                tracing::error!(%error, "a reference cannot be fetched");
                ApiProblem::SourceUnavailable.into()
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (name, status, title) = self.problem.row();
        let document = ProblemDocument {
            r#type: format!("urn:kiket:problem:{name}"),
            title,
            status,
            detail: self.detail,
            field: self.field,
            missing: self.missing.iter().map(ToString::to_string).collect(),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&document).unwrap_or_default(); // texts always serialize
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.problem == ApiProblem::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
