//! What goes over the wire of the control plane: the only types that are serialized.
//!
//! Values come in as `SecretString` and there is no type that could carry one out. What a client sent wrong is told by
//! kind and place, never quoted.

pub(super) mod alerts;
pub(super) mod audit;
pub(super) mod policies;
pub(super) mod provider;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::{ApiError, ApiProblem};

mod consent;
mod explain;
mod extension;
mod installation;
mod key;
mod report;
mod secret;
mod token;

pub(super) use consent::{AcceptInput, AwaitingObject, ConfirmInput};
pub(super) use explain::{ExplanationObject, ExplanationsObject};
pub(super) use extension::ExtensionObject;
pub(super) use installation::{InstallInput, InstallationObject, InstalledObject, PatchInput};
pub(super) use key::{ChangedKeyObject, KeyringObject};
pub(super) use report::{ReportObject, ReportRow, ReportTotals};
pub(super) use secret::{
    KeysObject, LinkInput, PlaceInput, RotateInput, SdkSecretInput, SecretInput, SecretObject, SecretsInput, SetInput,
    WrittenObject,
};
pub(super) use token::{MadeTokenObject, TokenInput, TokenObject};

/// A problem document (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProblemDocument {
    /// `urn:kiket:problem:<name>`
    pub(super) r#type: String,
    pub(super) title: &'static str,
    pub(super) status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    /// The field that cannot be accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field: Option<&'static str>,
    /// Required keys without a value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) missing: Vec<String>,
}

/// An id: a text, or an integer that becomes one.
#[derive(Debug, Clone, ToSchema)]
#[schema(value_type = String, pattern = "^[A-Za-z0-9._:-]{1,128}$")]
pub(super) struct IdText(pub(super) String);

impl<'de> Deserialize<'de> for IdText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrInteger;
        impl Visitor<'_> for TextOrInteger {
            type Value = IdText;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an id")
            }
            fn visit_str<E>(self, text: &str) -> Result<IdText, E> {
                Ok(IdText(text.to_owned()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<IdText, E> {
                Ok(IdText(number.to_string()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<IdText, E> {
                Ok(IdText(number.to_string()))
            }
        }
        deserializer.deserialize_any(TextOrInteger)
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PageOf<T> {
    pub(super) data: Vec<T>,
    /// What `cursor` of the next page is.
    pub(super) next_cursor: Option<String>,
}

/// The one parameter of a path. What is no text is told as any other problem is.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let name = Path::<String>::from_request_parts(parts, state).await;
        let refused = |_| ApiError::with_detail(ApiProblem::Malformed, "the path is not UTF-8");
        name.map(|Path(name)| Self(name)).map_err(refused)
    }
}

/// A JSON body. What does not fit is told by kind and place.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if media_type(request.headers()) != "application/json" {
            return Err(ApiError::with_detail(
                ApiProblem::MediaType,
                "Content-Type is application/json",
            ));
        }
        let bytes = body(request, state).await?;
        parse(&bytes).map(Body)
    }
}

/// A JSON body that may be left out, or be `null`.
pub(super) struct MaybeBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for MaybeBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let is_json = media_type(request.headers()) == "application/json";
        let bytes = body(request, state).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        if !is_json {
            return Err(ApiError::with_detail(
                ApiProblem::MediaType,
                "Content-Type is application/json",
            ));
        }
        parse::<Option<T>>(&bytes).map(|body| Self(body.unwrap_or_default()))
    }
}

/// The bytes of a body within the limit.
pub(super) async fn body<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, state).await.map_err(|rejection| {
        let is_too_large = rejection.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE;
        if is_too_large {
            ApiProblem::TooLarge.into()
        } else {
            ApiProblem::Malformed.into()
        }
    })
}

/// Parses JSON; the parser's own text, which quotes values, is dropped.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        if error.is_data() {
            let detail = format!("a field is missing, unknown or of the wrong type (line {line}, column {column})");
            ApiError::with_detail(ApiProblem::InvalidField, detail)
        } else {
            ApiError::with_detail(
                ApiProblem::Malformed,
                format!("not JSON (line {line}, column {column})"),
            )
        }
    })
}

/// A body's media type without parameters, in lower case.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The version that `If-Match` insists on.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let version = value.to_str().ok().and_then(|text| text.trim_matches('"').parse().ok());
    version
        .map(Some)
        .ok_or_else(|| ApiError::field("If-Match", "If-Match is a version in quotes, for example \"3\""))
}
