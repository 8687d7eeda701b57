//! How records become columns and back: what both adapters share.

use super::{
    ChainHead, CheckpointRow, ExtensionRow, InstallationRow, InstanceRow, KekRow, LinkedEntry, OutboxRow, PolicyRow,
    Predecessor, ProviderRow, RequestRow, Role, SecretRow, StoreError, TokenRow,
};
use crate::crypto::chain::Link;
use crate::crypto::checkpoint::Checkpoint;
use crate::domain::alert::{Alert, AlertKind};
use crate::domain::audit::{Action, Actor, AuditEntry, Delivered, Outcome, Source};
use crate::domain::change::Changed;
use crate::domain::id::{ExtensionId, InstallationId, OrganizationId, ProductInstallationId, ProjectId, ScopeId};
use crate::domain::installation::{Installation, InstallationState};
use crate::domain::key::SecretKey;
use crate::domain::policy::Policy;
use crate::domain::provider::ProviderName;
use crate::domain::scope::{Owner, Scope, Slot};
use crate::domain::secret::{SecretKind, SecretMeta};
use crate::domain::time::Timestamp;

/// A driver's row, column by column. Anything that does not read back is [`StoreError::Damaged`].
pub(super) trait Columns {
    fn text(&self, column: &'static str) -> Result<String, StoreError>;
    fn text_or_null(&self, column: &'static str) -> Result<Option<String>, StoreError>;
    fn bytes(&self, column: &'static str) -> Result<Vec<u8>, StoreError>;
    fn bytes_or_null(&self, column: &'static str) -> Result<Option<Vec<u8>>, StoreError>;
    fn number(&self, column: &'static str) -> Result<i64, StoreError>;
    fn number_or_null(&self, column: &'static str) -> Result<Option<i64>, StoreError>;

    /// A count, version or position.
    fn count(&self, column: &'static str) -> Result<u64, StoreError> {
        self.number(column).and_then(unsigned)
    }

    fn moment(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        self.count(column).map(Timestamp)
    }

    fn moment_or_null(&self, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
        let moment = self.number_or_null(column)?.map(unsigned).transpose()?;
        Ok(moment.map(Timestamp))
    }

    fn hash(&self, column: &'static str) -> Result<[u8; 32], StoreError> {
        self.bytes(column)?.try_into().map_err(|_| StoreError::Damaged)
    }
}

/// A column's number for an unsigned one. Versions and moments never come near the bound.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Damaged)
}

fn word<T>(parsed: Option<T>) -> Result<T, StoreError> {
    parsed.ok_or(StoreError::Damaged)
}

pub(super) fn extension(row: &impl Columns) -> Result<ExtensionRow, StoreError> {
    Ok(ExtensionRow {
        id: ExtensionId::parse(&row.text("id")?)?,
        document: row.text("document")?,
        version: row.count("version")?,
        mac: row.bytes("mac")?,
        created_at: row.moment("created_at")?,
        updated_at: row.moment("updated_at")?,
    })
}

pub(super) fn installation(row: &impl Columns) -> Result<InstallationRow, StoreError> {
    let product = row.text_or_null("product_installation")?;
    let installation = Installation {
        id: InstallationId::parse(&row.text("id")?)?,
        extension: ExtensionId::parse(&row.text("extension")?)?,
        organization: OrganizationId::parse(&row.text("organization")?)?,
        project: ProjectId::parse(&row.text("project")?)?,
        product_installation: product.map(|id| ProductInstallationId::parse(&id)).transpose()?,
        state: word(InstallationState::parse(&row.text("state")?))?,
        callback_url: row.text_or_null("callback_url")?,
        version: row.count("version")?,
        created_at: row.moment("created_at")?,
        updated_at: row.moment("updated_at")?,
    };
    Ok(InstallationRow {
        installation,
        consent: row.text_or_null("consent")?,
        mac: row.bytes("mac")?,
    })
}

pub(super) fn owner(text: &str) -> Result<Owner, StoreError> {
    if text.is_empty() {
        Ok(Owner::Partner)
    } else {
        Ok(Owner::Organization(OrganizationId::parse(text)?))
    }
}

pub(super) fn slot(row: &impl Columns) -> Result<Slot, StoreError> {
    Ok(Slot {
        owner: owner(&row.text("owner")?)?,
        scope: scope(&row.text("scope")?)?,
        scope_id: ScopeId::parse(&row.text("scope_id")?)?,
        key: SecretKey::parse(&row.text("key")?)?,
    })
}

pub(super) fn secret_meta(row: &impl Columns) -> Result<SecretMeta, StoreError> {
    Ok(SecretMeta {
        slot: slot(row)?,
        kind: word(SecretKind::parse(&row.text("kind")?))?,
        version: row.count("version")?,
        rotation_count: row.count("rotation_count")?,
        last_rotated_at: row.moment_or_null("last_rotated_at")?,
        created_at: row.moment("created_at")?,
        updated_at: row.moment("updated_at")?,
        expires_at: row.moment_or_null("expires_at")?,
        written_by: row.text("written_by")?,
        contact: row.text_or_null("contact")?,
        last_used_at: row.moment_or_null("last_used_at")?,
    })
}

pub(super) fn secret(row: &impl Columns) -> Result<SecretRow, StoreError> {
    let predecessor = match row.bytes_or_null("predecessor_sealed")? {
        None => None,
        Some(sealed) => Some(Predecessor {
            version: row.count("predecessor_version")?,
            sealed,
            valid_until: row.moment("predecessor_valid_until")?,
        }),
    };
    Ok(SecretRow {
        meta: secret_meta(row)?,
        sealed: row.bytes("sealed")?,
        predecessor,
    })
}

pub(super) fn token(row: &impl Columns) -> Result<TokenRow, StoreError> {
    let organization = row.text_or_null("organization")?;
    Ok(TokenRow {
        id: row.text("id")?,
        hash: row.hash("hash")?,
        name: row.text("name")?,
        role: word(Role::parse(&row.text("role")?))?,
        organization: organization.map(|id| OrganizationId::parse(&id)).transpose()?,
        created_by: row.text("created_by")?,
        created_at: row.moment("created_at")?,
        expires_at: row.moment_or_null("expires_at")?,
        last_used_at: row.moment_or_null("last_used_at")?,
        mac: row.bytes("mac")?,
    })
}

pub(super) fn policy(row: &impl Columns) -> Result<PolicyRow, StoreError> {
    let small = |column| row.number(column).and_then(small);
    let small_or_null = |column| row.number_or_null(column)?.map(self::small).transpose();
    let emails = row.text("emails")?;
    Ok(PolicyRow {
        organization: OrganizationId::parse(&row.text("organization")?)?,
        policy: Policy {
            rotation_max_age_days: small("rotation_max_age_days")?,
            read_threshold: small("read_threshold")?,
            read_window_secs: small("read_window_secs")?,
            delivery_read_threshold: small_or_null("delivery_read_threshold")?,
            unused_days: small_or_null("unused_days")?,
            retention_days: small_or_null("retention_days")?,
            webhook_url: row.text_or_null("webhook_url")?,
            webhook_signing_key: row.text_or_null("webhook_signing_key")?,
            emails: emails.split_whitespace().map(str::to_owned).collect(),
        },
        version: row.count("version")?,
        updated_at: row.moment("updated_at")?,
        mac: row.bytes("mac")?,
    })
}

pub(super) fn provider(row: &impl Columns) -> Result<ProviderRow, StoreError> {
    Ok(ProviderRow {
        organization: OrganizationId::parse(&row.text("organization")?)?,
        name: ProviderName::parse(&row.text("name")?)?,
        document: row.text("document")?,
        is_default: flag(row.number("is_default")?)?,
        version: row.count("version")?,
        created_at: row.moment("created_at")?,
        updated_at: row.moment("updated_at")?,
        mac: row.bytes("mac")?,
    })
}

pub(super) fn alert(row: &impl Columns) -> Result<Alert, StoreError> {
    Ok(Alert {
        id: row.text("id")?,
        organization: organization(&row.text("organization")?)?,
        kind: word(AlertKind::parse(&row.text("kind")?))?,
        scope: scope_or_null(row)?,
        subject: row.text_or_null("subject")?.map(|id| ScopeId::parse(&id)).transpose()?,
        key: row.text_or_null("key")?.map(|key| SecretKey::parse(&key)).transpose()?,
        detail: row.text("detail")?,
        dedup: row.text("dedup")?,
        raised_at: row.moment("raised_at")?,
        acknowledged_at: row.moment_or_null("acknowledged_at")?,
        acknowledged_by: row.text_or_null("acknowledged_by")?,
    })
}

pub(super) fn outbox(row: &impl Columns) -> Result<OutboxRow, StoreError> {
    Ok(OutboxRow {
        id: row.text("id")?,
        kind: row.text("kind")?,
        organization: organization(&row.text("organization")?)?,
        payload: row.text("payload")?,
        created_at: row.moment("created_at")?,
        due_at: row.moment("due_at")?,
        attempts: small(row.number("attempts")?)?,
    })
}

pub(super) fn request(row: &impl Columns) -> Result<RequestRow, StoreError> {
    let status = row.number_or_null("status")?;
    let answer = match (status, row.bytes_or_null("body")?) {
        (Some(status), Some(body)) => Some((u16::try_from(status).map_err(|_| StoreError::Damaged)?, body)),
        _ => None,
    };
    Ok(RequestRow {
        id: row.hash("id")?,
        asked: row.hash("asked")?,
        answer,
        created_at: row.moment("created_at")?,
        expires_at: row.moment("expires_at")?,
    })
}

pub(super) fn kek(row: &impl Columns) -> Result<KekRow, StoreError> {
    Ok(KekRow {
        id: row.text("id")?,
        head: row.bytes("head")?,
        tag: row.bytes("tag")?,
        created_at: row.moment("created_at")?,
        promotion: row.count("promotion")?,
        promoted_at: row.moment_or_null("promoted_at")?,
        retired_at: row.moment_or_null("retired_at")?,
        unreadable: row.count("unreadable")?,
        mac: row.bytes("mac")?,
    })
}

pub(super) fn instance(row: &impl Columns) -> Result<InstanceRow, StoreError> {
    Ok(InstanceRow {
        id: row.text("id")?,
        role: row.text("role")?,
        release: row.text("release")?,
        keks: row.text("keks")?.split_whitespace().map(str::to_owned).collect(),
        started_at: row.moment("started_at")?,
        seen_at: row.moment("seen_at")?,
    })
}

pub(super) fn checkpoint(row: &impl Columns) -> Result<CheckpointRow, StoreError> {
    Ok(CheckpointRow {
        checkpoint: Checkpoint {
            organization: organization(&row.text("chain")?)?,
            sequence: row.count("sequence")?,
            hash: row.hash("hash")?,
            at: row.moment("at")?,
        },
        signature: row.bytes("signature")?,
    })
}

pub(super) fn chain_head(row: &impl Columns) -> Result<ChainHead, StoreError> {
    Ok(ChainHead {
        organization: organization(&row.text("chain")?)?,
        sequence: row.count("sequence")?,
        hash: row.hash("hash")?,
    })
}

pub(super) fn linked_entry(row: &impl Columns) -> Result<LinkedEntry, StoreError> {
    Ok(LinkedEntry {
        position: row.count("position")?,
        sequence: row.count("sequence")?,
        entry: audit_entry(row)?,
        link: Link {
            hash: row.hash("hash")?,
            mac: row.hash("mac")?,
        },
    })
}

/// A yes or no as it is written; another number would be an edit that nobody sees.
fn flag(number: i64) -> Result<bool, StoreError> {
    match number {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(StoreError::Damaged),
    }
}

fn small(number: i64) -> Result<u32, StoreError> {
    u32::try_from(number).map_err(|_| StoreError::Damaged)
}

/// An organization, or nobody in particular.
pub(super) fn organization(text: &str) -> Result<Option<OrganizationId>, StoreError> {
    if text.is_empty() {
        Ok(None)
    } else {
        Ok(Some(OrganizationId::parse(text)?))
    }
}

/// A scope by the name that is written, not by what people may call it: two rows would stand for one.
fn scope(name: &str) -> Result<Scope, StoreError> {
    word(Scope::parse(name).filter(|scope| scope.name() == name))
}

fn scope_or_null(row: &impl Columns) -> Result<Option<Scope>, StoreError> {
    row.text_or_null("scope")?.map(|name| scope(&name)).transpose()
}

fn audit_entry(row: &impl Columns) -> Result<AuditEntry, StoreError> {
    let delivered = match (row.text_or_null("destination")?, row.number_or_null("count")?) {
        (Some(destination), Some(count)) => Some(Delivered {
            destination,
            count: unsigned(count)?,
        }),
        (None, None) => None,
        _ => return Err(StoreError::Damaged),
    };
    Ok(AuditEntry {
        organization: organization(&row.text("chain")?)?,
        at: row.moment("at")?,
        actor: Actor {
            id: row.text("actor_id")?,
            name: row.text("actor_name")?,
        },
        action: word(Action::parse(&row.text("action")?))?,
        source: word(Source::parse(&row.text("source")?))?,
        outcome: word(Outcome::parse(&row.text("outcome")?))?,
        scope: scope_or_null(row)?,
        subject: row.text_or_null("subject")?.map(|id| ScopeId::parse(&id)).transpose()?,
        key: row.text_or_null("key")?.map(|key| SecretKey::parse(&key)).transpose()?,
        version: row.number_or_null("version")?.map(unsigned).transpose()?,
        external: flag(row.number("external")?)?,
        delivered,
    })
}

/// The chain that an entry belongs to.
pub(super) fn chain_of(organization: Option<&OrganizationId>) -> &str {
    organization.map_or("", OrganizationId::as_str)
}

/// A change's word in the feed.
pub(super) const fn changed_kind(changed: &Changed) -> &'static str {
    match changed {
        Changed::Everything => "everything",
        Changed::Secret(_) => "secret",
        Changed::Extension(_) => "extension",
        Changed::Installation(_) => "installation",
        Changed::Tokens => "tokens",
        Changed::Providers(_) => "providers",
        Changed::Keys => "keys",
    }
}

pub(super) fn changed(row: &impl Columns) -> Result<Changed, StoreError> {
    Ok(match row.text("kind")?.as_str() {
        "secret" => Changed::Secret(slot(row)?),
        "extension" => Changed::Extension(ExtensionId::parse(&row.text("id")?)?),
        "installation" => Changed::Installation(InstallationId::parse(&row.text("id")?)?),
        "tokens" => Changed::Tokens,
        "providers" => Changed::Providers(OrganizationId::parse(&row.text("id")?)?),
        "keys" => Changed::Keys,
        _ => Changed::Everything, // a word of a later version
    })
}
