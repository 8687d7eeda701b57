//! How the place of a secret is named on the command line, and how a change of one is told.

use serde_json::Value;

use crate::cli::client::Place;
use crate::cli::remote::Remote;
use crate::cli::table::{self, text};
use crate::cli::{Failure, warn};
use crate::domain::key::SecretKey;
use crate::domain::scope::Scope;

/// A scope and what it is bound to.
#[derive(Debug, clap::Args)]
pub(super) struct At {
    /// The scope; the current organization where left out
    #[arg(long, value_name = "KIND", value_parser = scope)]
    pub(super) scope: Option<Scope>,
    /// What it is bound to: the installation, extension, project or organization
    #[arg(long, value_name = "ID", requires = "scope")]
    pub(super) id: Option<String>,
}

pub(super) fn scope(text: &str) -> Result<Scope, String> {
    let names = "the scopes are extension_installation (or installation), product_installation (or product), \
                 extension, project and organization";
    Scope::parse(text).ok_or_else(|| names.to_owned())
}

pub(super) fn key(text: &str) -> Result<SecretKey, String> {
    SecretKey::parse(text).map_err(|error| error.to_string())
}

impl At {
    /// The place that is meant: the current organization where none is named.
    pub(super) fn place(&self, remote: &Remote, partner_default: bool) -> Result<Place, Failure> {
        let scope = self.scope.unwrap_or(Scope::Organization);
        if scope != Scope::Organization && self.id.is_none() {
            return Err(Failure::usage(format!(
                "--id says which {} is meant",
                scope.name().replace('_', " ")
            )));
        }
        Ok(Place {
            scope: scope.name().to_owned(),
            id: self.id.clone(),
            // A partner's default is everybody's: KIKET_ORGANIZATION has no say in it.
            organization: remote.organization.clone().filter(|_| !partner_default),
            partner_default,
        })
    }
}

/// What became of a secret, in one line.
pub(super) fn told(what: &str, secret: &Value) -> String {
    let (key, version) = (text(secret, "key"), text(secret, "version"));
    let rotations = match secret.get("rotation_count").and_then(Value::as_u64) {
        None | Some(0) => String::new(),
        Some(1) => String::from(", rotated once"),
        Some(count) => format!(", rotated {count} times"),
    };
    format!("{what} {key} at {}: version {version}{rotations}\n", place_of(secret))
}

/// Where a secret stands.
pub(super) fn place_of(secret: &Value) -> String {
    let place = format!("{} {}", text(secret, "scope"), text(secret, "scope_id"));
    match secret.get("organization_id") {
        Some(Value::Null) => format!("{place} (partner's default)"),
        _ => place,
    }
}

/// Says where a write was the first to name an id: perhaps a typing error.
pub(super) fn warn_of_new_scopes<'a>(secrets: impl IntoIterator<Item = &'a Value>) {
    let mut places: Vec<String> = secrets
        .into_iter()
        .filter(|secret| secret.get("new_scope").and_then(Value::as_bool) == Some(true))
        .map(place_of)
        .collect();
    places.sort_unstable();
    places.dedup();
    for place in places {
        warn(&format!(
            "nothing named {place} before; if that is a typing error, delete the secret again"
        ));
    }
}

/// Where a value comes from.
pub(super) fn source(secret: &Value) -> String {
    let is = |name: &str| secret.get(name).and_then(Value::as_bool) == Some(true);
    if is("placeholder") {
        String::from("placeholder")
    } else if is("external") {
        match text(secret, "external_secret_name").as_str() {
            table::ABSENT => String::from("external"),
            name => name.to_owned(),
        }
    } else {
        String::from("value")
    }
}
