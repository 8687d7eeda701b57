//! Where a client says a secret is: parsed, held against what the caller may touch, made a slot.

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::IntoParams;

use super::Control;
use super::auth::Caller;
use super::error::{ApiError, ApiProblem};
use super::wire::{IdText, PlaceInput};
use crate::domain::id::{ExtensionId, InstallationId, OrganizationId, ScopeId};
use crate::domain::key::SecretKey;
use crate::domain::reference::Reference;
use crate::domain::scope::{Owner, Scope, Slot};
use crate::domain::time::Timestamp;
use crate::store::Tenancy;

/// The first moment past what RFC 3339 can write: the year 10000.
const MOMENT_END_MILLIS: u64 = 253_402_300_800_000;

/// The longest `owner` of a secret, in bytes.
const CONTACT_BYTES_MAX: usize = 256;

/// Where a secret is.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SlotParams {
    /// The scope.
    #[param(
        pattern = "^(extension_installation|installation|product_installation|product|extension|project|organization)$"
    )]
    scope: String,
    /// What it is bound to.
    #[param(pattern = "^[A-Za-z0-9._:-]{1,128}$")]
    id: Option<String>,
    /// Whose.
    #[param(pattern = "^[A-Za-z0-9._:-]{1,128}$")]
    organization_id: Option<String>,
    /// The partner's value. Operators only.
    #[serde(default)]
    partner_default: bool,
}

/// Where a client says a secret is.
pub(super) struct Place<'a> {
    pub(super) scope: &'a str,
    pub(super) id: Option<&'a str>,
    pub(super) key: &'a str,
    pub(super) organization: Option<&'a str>,
    pub(super) is_partner_default: bool,
}

impl<'a> Place<'a> {
    /// As a body states it.
    pub(super) fn stated(
        scope: &'a str,
        id: Option<&'a IdText>,
        key: &'a str,
        organization: Option<&'a IdText>,
        is_partner_default: bool,
    ) -> Self {
        Self {
            scope,
            id: id.map(|id| id.0.as_str()),
            key,
            organization: organization.map(|id| id.0.as_str()),
            is_partner_default,
        }
    }
}

impl SlotParams {
    pub(super) fn place<'a>(&'a self, name: &'a str) -> Place<'a> {
        Place {
            scope: &self.scope,
            id: self.id.as_deref(),
            key: name,
            organization: self.organization_id.as_deref(),
            is_partner_default: self.partner_default,
        }
    }
}

impl PlaceInput {
    pub(super) fn place<'a>(&'a self, name: &'a str) -> Place<'a> {
        Place::stated(
            &self.scope,
            self.id.as_ref(),
            name,
            self.organization_id.as_ref(),
            self.partner_default,
        )
    }
}

/// Tells the log what a refusal is about.
pub(super) fn tries(caller: &Caller, place: &Place<'_>) {
    let subject = place.id.and_then(|id| ScopeId::parse(id).ok());
    let key = SecretKey::parse(place.key).ok();
    caller.attempt.about(Scope::parse(place.scope), subject, key);
}

/// The slot that a client means, if it may: a foreign one looks absent.
pub(super) async fn slot(control: &Control, caller: &Caller, place: Place<'_>) -> Result<Slot, ApiError> {
    let scope = scope(place.scope)?;
    let key = key(place.key)?;
    tries(caller, &place);
    let named = place.organization.map(organization).transpose()?;
    if place.is_partner_default {
        caller.must_operate()?;
        if scope != Scope::Extension || named.is_some() {
            return Err(ApiError::field(
                "partner_default",
                "a partner's default is at scope extension and belongs to no organization",
            ));
        }
        return Ok(Slot {
            owner: Owner::Partner,
            scope,
            scope_id: extension_id(place.id)?,
            key,
        });
    }
    let organization = match caller.organization(named)? {
        Some(organization) => organization,
        None => implied_organization(control, scope, place.id).await?,
    };
    let scope_id = match (scope, place.id) {
        (Scope::Organization, None) => (&organization).into(),
        (Scope::Organization, Some(id)) if id != organization.as_str() => return Err(ApiProblem::NotFound.into()),
        (Scope::Extension, id) => extension_id(id)?,
        (_, Some(id)) => scope_id(id)?,
        (_, None) => return Err(ApiError::field("id", "id is missing")),
    };
    if scope == Scope::ExtensionInstallation {
        must_be_own(control, &organization, &scope_id).await?;
    }
    Ok(Slot {
        owner: Owner::Organization(organization),
        scope,
        scope_id,
        key,
    })
}

/// An operator may leave the organization out where scope and id imply it.
async fn implied_organization(control: &Control, scope: Scope, id: Option<&str>) -> Result<OrganizationId, ApiError> {
    let missing = || ApiError::field("organization_id", "organization_id is missing");
    match (scope, id) {
        (Scope::Organization, Some(id)) => organization(id),
        (Scope::ExtensionInstallation, Some(id)) => {
            let id = InstallationId::parse(id).map_err(|error| ApiError::field("id", error))?;
            let installed = control.registry.installation(&Tenancy::Platform, &id).await?;
            installed
                .map(|installed| installed.installation.organization)
                .ok_or_else(missing)
        }
        _ => Err(missing()),
    }
}

/// An installation of another organization is none. One that is not there yet may be written ahead.
async fn must_be_own(control: &Control, organization: &OrganizationId, id: &ScopeId) -> Result<(), ApiError> {
    let id = InstallationId::parse(id.as_str()).map_err(|error| ApiError::field("id", error))?;
    let installed = control.registry.installation(&Tenancy::Platform, &id).await?;
    match installed {
        Some(installed) if installed.installation.organization != *organization => Err(ApiProblem::NotFound.into()),
        _ => Ok(()),
    }
}

pub(super) fn scope(text: &str) -> Result<Scope, ApiError> {
    let names = "scope is extension_installation, product_installation, extension, project or organization";
    Scope::parse(text).ok_or_else(|| ApiError::field("scope", names))
}

pub(super) fn key(text: &str) -> Result<SecretKey, ApiError> {
    SecretKey::parse(text).map_err(|error| ApiError::field("key", error))
}

pub(super) fn scope_id(text: &str) -> Result<ScopeId, ApiError> {
    ScopeId::parse(text).map_err(|error| ApiError::field("id", error))
}

fn extension_id(text: Option<&str>) -> Result<ScopeId, ApiError> {
    let text = text.ok_or_else(|| ApiError::field("id", "id is missing"))?;
    ExtensionId::parse(text)
        .map(|id| (&id).into())
        .map_err(|error| ApiError::field("id", error))
}

/// Reads an organization's id.
pub(super) fn organization(text: &str) -> Result<OrganizationId, ApiError> {
    OrganizationId::parse(text).map_err(|error| ApiError::field("organization_id", error))
}

/// Reads an optional organization's id of a body.
pub(super) fn named_organization(named: Option<&IdText>) -> Result<Option<OrganizationId>, ApiError> {
    named.map(|id| organization(&id.0)).transpose()
}

/// Reads a moment, if one is given.
pub(super) fn moment(text: Option<&str>) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let parsed = OffsetDateTime::parse(text, &Rfc3339).ok();
    let millis = parsed.and_then(|at| u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok());
    let refused = || ApiError::field("expires_at", "expires_at is a moment as in RFC 3339");
    // A year of more than four digits has no form in which it could be shown again.
    millis
        .filter(|millis| *millis < MOMENT_END_MILLIS)
        .map(|millis| Some(Timestamp(millis)))
        .ok_or_else(refused)
}

/// Reads whom to ask about a secret, if that is given.
pub(super) fn contact(text: Option<String>) -> Result<Option<String>, ApiError> {
    let refused = || ApiError::field("owner", "owner has 1 to 256 bytes without control characters");
    let fits = |text: &String| (1..=CONTACT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    match text {
        Some(text) if !fits(&text) => Err(refused()),
        other => Ok(other),
    }
}

/// Reads an external secret's name.
pub(super) fn reference(text: &str) -> Result<Reference, ApiError> {
    Reference::parse(text).map_err(|error| ApiError::field("external_secret_name", error))
}
