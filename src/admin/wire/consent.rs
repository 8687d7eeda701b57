//! What goes over the wire about an organization's consents: what waits for one, and what one names.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::consent::{Awaiting, KeyUse};
use crate::domain::destination::Destination;
use crate::registry::SeenKey;

use crate::admin::error::ApiError;
use crate::admin::place::key;

/// What waits for the word of an organization's admin; always there, and mostly empty.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct AwaitingObject {
    /// The changed destination, which gets no secrets until it is confirmed.
    destination: Option<String>,
    /// What is withheld until it is accepted.
    keys: Vec<UsedKeyObject>,
}

/// A key and one use of it.
#[derive(Debug, Serialize, ToSchema)]
struct UsedKeyObject {
    key: String,
    /// `payload`, `handshake` or `signing`.
    used_for: &'static str,
}

impl From<&Awaiting> for AwaitingObject {
    fn from(awaiting: &Awaiting) -> Self {
        let keys = awaiting.keys.iter().map(|used| UsedKeyObject {
            key: used.key.to_string(),
            used_for: used.used_for.name(),
        });
        Self {
            destination: awaiting.destination.as_ref().map(ToString::to_string),
            keys: keys.collect(),
        }
    }
}

/// Which destination is confirmed.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct ConfirmInput {
    /// The one that was seen, as `awaiting_consent` has it: any other that stands there by now is not confirmed. Left
    /// out, whichever stands there.
    destination: Option<String>,
}

/// Which keys are accepted.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct AcceptInput {
    /// Those that were seen, as `awaiting_consent` has them, or some of them. Left out, all that the manifest has.
    keys: Option<Vec<AcceptedKeyInput>>,
}

/// A key that is accepted: for one use, or, a text only, for each that the manifest has for it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
enum AcceptedKeyInput {
    Key(String),
    Used(UsedKeyInput),
}

/// A key that is accepted for one use.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UsedKeyInput {
    key: String,
    /// `payload`, `handshake` or `signing`.
    used_for: String,
}

impl ConfirmInput {
    pub(in crate::admin) fn read(self) -> Result<Option<Destination>, ApiError> {
        let destination = self.destination.map(|url| Destination::parse(&url));
        destination
            .transpose()
            .map_err(|error| ApiError::field("destination", error))
    }
}

impl AcceptInput {
    pub(in crate::admin) fn read(self) -> Result<Option<Vec<SeenKey>>, ApiError> {
        let read = |input| match input {
            AcceptedKeyInput::Key(text) => Ok((key(&text)?, None)),
            AcceptedKeyInput::Used(used) => {
                let unknown = || ApiError::field("keys", "used_for is payload, handshake or signing");
                let used_for = KeyUse::parse(&used.used_for).ok_or_else(unknown)?;
                Ok((key(&used.key)?, Some(used_for)))
            }
        };
        self.keys.map(|keys| keys.into_iter().map(read).collect()).transpose()
    }
}
