//! Rows and entries for the cases: complete, told apart by their ids.

use kiket_sidecar::domain::audit::{Action, Actor, AuditEntry, Delivered, Outcome, Source};
use kiket_sidecar::domain::id::{
    ExtensionId, InstallationId, OrganizationId, ProductInstallationId, ProjectId, ScopeId,
};
use kiket_sidecar::domain::installation::{Installation, InstallationState};
use kiket_sidecar::domain::key::SecretKey;
use kiket_sidecar::domain::scope::{Owner, Scope, Slot};
use kiket_sidecar::domain::secret::{SecretKind, SecretMeta};
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::{Change, ExtensionRow, InstallationRow, Predecessor, Role, SecretRow, TokenRow, Write};

pub fn organization(id: &str) -> OrganizationId {
    OrganizationId::parse(id).unwrap()
}

/// The owner of this name; `""` is the partner.
pub fn owner(id: &str) -> Owner {
    if id.is_empty() {
        Owner::Partner
    } else {
        Owner::Organization(organization(id))
    }
}

pub fn slot(of: &str, scope: Scope, id: &str, key: &str) -> Slot {
    Slot {
        owner: owner(of),
        scope,
        scope_id: ScopeId::parse(id).unwrap(),
        key: SecretKey::parse(key).unwrap(),
    }
}

pub fn extension(id: &str, version: u64) -> ExtensionRow {
    ExtensionRow {
        id: ExtensionId::parse(id).unwrap(),
        document: format!("extension: {{id: {id}}} # \u{e4}\u{1f511} '\"\\ {version}"),
        version,
        mac: vec![0, 255, 7],
        created_at: Timestamp(1_700_000_000_001),
        updated_at: Timestamp(1_700_000_000_002),
    }
}

/// An installation in `proj` with every optional field, of `com.example.a`.
pub fn installation(id: &str, of: &str, version: u64) -> InstallationRow {
    InstallationRow {
        installation: Installation {
            id: InstallationId::parse(id).unwrap(),
            extension: ExtensionId::parse("com.example.a").unwrap(),
            organization: organization(of),
            project: ProjectId::parse("proj").unwrap(),
            product_installation: Some(ProductInstallationId::parse("prod").unwrap()),
            state: InstallationState::Enabled,
            callback_url: Some("https://example.com/x?y='\"".into()),
            version,
            created_at: Timestamp(3),
            updated_at: Timestamp(4),
        },
        consent: Some(format!("{{\"accepted_in\":{version}}} \u{e4}'\"")),
        mac: vec![9; 32],
    }
}

/// A value that was rotated, with every optional field.
pub fn secret(slot: Slot, version: u64) -> SecretRow {
    SecretRow {
        meta: SecretMeta {
            slot,
            kind: SecretKind::Value,
            version,
            rotation_count: version - 1,
            last_rotated_at: Some(Timestamp(5)),
            created_at: Timestamp(6),
            updated_at: Timestamp(7),
            expires_at: Some(Timestamp(8)),
            written_by: "Ada".into(),
            contact: Some("ops@example.com".into()),
            last_used_at: None,
        },
        sealed: vec![0, 1, 255, 0],
        predecessor: Some(Predecessor {
            version: version.saturating_sub(1),
            sealed: vec![254, 0],
            valid_until: Timestamp(9),
        }),
    }
}

/// A row with nothing optional and nothing sealed.
pub fn bare(slot: Slot, kind: SecretKind, version: u64) -> SecretRow {
    let mut row = secret(slot, version);
    row.meta.kind = kind;
    row.meta.last_rotated_at = None;
    row.meta.expires_at = None;
    row.meta.contact = None;
    row.sealed = Vec::new();
    row.predecessor = None;
    row
}

pub fn token(id: &str, hash: u8, role: Role, of: Option<&str>) -> TokenRow {
    TokenRow {
        id: id.into(),
        hash: [hash; 32],
        name: format!("the token {id}"),
        role,
        organization: of.map(organization),
        created_by: "bootstrap".into(),
        created_at: Timestamp(10),
        expires_at: of.map(|_| Timestamp(11)),
        last_used_at: None,
        mac: vec![1, 2, 3],
    }
}

/// An entry with every optional field, told apart by its moment.
pub fn entry(of: Option<&str>, at: u64) -> AuditEntry {
    AuditEntry {
        organization: of.map(organization),
        at: Timestamp(at),
        actor: Actor {
            id: "tok_1".into(),
            name: "Ada \u{1f511} 'x'".into(),
        },
        action: Action::SecretRotate,
        source: Source::Api,
        outcome: Outcome::Ok,
        scope: Some(Scope::Project),
        subject: Some(ScopeId::parse("proj").unwrap()),
        key: Some(SecretKey::parse("KEY").unwrap()),
        version: Some(3),
        external: true,
        delivered: Some(Delivered {
            destination: "https://ext.example.com:443".into(),
            count: 7,
        }),
    }
}

/// An entry with nothing optional.
pub fn bare_entry(of: Option<&str>, at: u64) -> AuditEntry {
    AuditEntry {
        scope: None,
        subject: None,
        key: None,
        version: None,
        external: false,
        delivered: None,
        ..entry(of, at)
    }
}

pub fn put_extension(id: &str) -> Write {
    Write::Extension {
        row: extension(id, 1),
        expected: None,
    }
}

pub fn put_installation(id: &str, of: &str) -> Write {
    Write::Installation {
        row: installation(id, of, 1),
        expected: None,
    }
}

pub fn put_secret(slot: Slot) -> Write {
    Write::Secret {
        row: secret(slot, 1),
        expected: None,
    }
}

/// A change without entries.
pub fn change(writes: impl IntoIterator<Item = Write>) -> Change {
    Change {
        writes: writes.into_iter().collect(),
        entries: Vec::new(),
    }
}
