//! How a provider's settings become a row that nobody else can write, and are read back from one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::crypto::encoding::Encoder;
use crate::crypto::keyring::Keyring;
use crate::domain::provider::{Provider, ProviderFields};
use crate::store::ProviderRow;

const PROVIDERS: &str = "providers";

/// The settings as a row keeps them. A field that this version does not know may narrow what the others say, so a
/// document with one is not read.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    kind: String,
    address: String,
    namespace: String,
    mounts: BTreeMap<String, u64>,
    path_prefix: String,
    auth_method: String,
    auth_mount: String,
    auth_role: String,
    credential_key: String,
    ca_key: String,
    ttl: Option<u64>,
}

/// The document of settings; whether they are the default stands in a column.
pub(super) fn document(provider: &Provider) -> String {
    let fields = provider.fields();
    let document = Document {
        kind: fields.kind,
        address: fields.address,
        namespace: fields.namespace,
        mounts: fields.mounts,
        path_prefix: fields.path_prefix,
        auth_method: fields.auth_method,
        auth_mount: fields.auth_mount,
        auth_role: fields.auth_role,
        credential_key: fields.credential_key,
        ca_key: fields.ca_key,
        ttl: fields.ttl,
    };
    serde_json::to_string(&document).unwrap_or_default() // texts and numbers always serialize
}

/// The row with its MAC, ready to be stored.
pub(super) fn sealed(keyring: &Keyring, mut row: ProviderRow) -> ProviderRow {
    row.mac = keyring.row_mac(PROVIDERS, &[&fields(&row)]).to_vec();
    row
}

/// What a row says; `None` where it is not as it was stored.
pub(super) fn read(keyring: &Keyring, row: &ProviderRow) -> Option<Provider> {
    if !keyring.row_mac_holds(PROVIDERS, &[&fields(row)], &row.mac) {
        return None;
    }
    let document: Document = serde_json::from_str(&row.document).ok()?;
    let fields = ProviderFields {
        kind: document.kind,
        address: document.address,
        namespace: document.namespace,
        mounts: document.mounts,
        path_prefix: document.path_prefix,
        auth_method: document.auth_method,
        auth_mount: document.auth_mount,
        auth_role: document.auth_role,
        credential_key: document.credential_key,
        ca_key: document.ca_key,
        default: row.is_default,
        ttl: document.ttl,
    };
    Provider::parse(row.name.as_str(), &fields).ok()
}

fn fields(row: &ProviderRow) -> Vec<u8> {
    // Every column is named, so that a new one cannot be forgotten here.
    let ProviderRow {
        organization,
        name,
        document,
        is_default,
        version,
        created_at,
        updated_at,
        mac: _,
    } = row;
    Encoder::new("kiket.provider-row.v1")
        .text(organization.as_str())
        .text(name.as_str())
        .text(document)
        .flag(*is_default)
        .number(*version)
        .number(created_at.0)
        .number(updated_at.0)
        .finish()
}
