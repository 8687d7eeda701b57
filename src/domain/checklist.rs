//! What an installation still needs: one line per key, and whether a scope satisfies it.

use super::key::SecretKey;
use super::manifest::{FieldScope, Manifest};
use super::scope::Scope;

/// What stands for a key, from an installation's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Satisfaction {
    /// The scope whose value would be used.
    pub by: Option<Scope>,
    /// Whether a placeholder stands at some scope.
    pub placeholder: bool,
}

/// One line of a checklist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChecklistItem {
    /// The key.
    pub key: SecretKey,
    /// What people call it.
    pub label: Option<String>,
    /// Whether the installation cannot be enabled without. Keys for the handshake and for signing always are.
    pub required: bool,
    /// Where a wizard stores it.
    pub scope: FieldScope,
    /// The scope that satisfies it.
    pub satisfied_by: Option<Scope>,
    /// Whether a placeholder waits for its value.
    pub placeholder: bool,
}

/// The checklist of a manifest: keys for the payload in order, then those for the handshake and for signing.
#[must_use]
pub fn checklist(manifest: &Manifest, satisfaction: impl Fn(&SecretKey) -> Satisfaction) -> Vec<ChecklistItem> {
    let demand = manifest.demand();
    let handshake = demand.handshake.iter().flat_map(|keys| keys.all());
    let reserved = handshake.chain(&demand.signing).map(|key| (key, true));
    let wanted = demand
        .payload
        .iter()
        .map(|wanted| (&wanted.key, wanted.required))
        .chain(reserved);
    let mut items: Vec<ChecklistItem> = Vec::new();
    for (key, required) in wanted {
        if items.iter().any(|item| item.key == *key) {
            continue; // one key can serve handshake and signing
        }
        let field = manifest.configuration.iter().find(|field| field.key == *key);
        let Satisfaction { by, placeholder } = satisfaction(key);
        items.push(ChecklistItem {
            key: key.clone(),
            label: field.and_then(|field| field.label.clone()),
            required,
            scope: field.map_or(FieldScope::Installation, |field| field.scope),
            satisfied_by: by,
            placeholder: placeholder && by.is_none(),
        });
    }
    items
}

/// The required keys that nothing satisfies, sorted.
#[must_use]
pub fn missing(items: &[ChecklistItem]) -> Vec<SecretKey> {
    let mut keys: Vec<SecretKey> = items
        .iter()
        .filter(|item| item.required && item.satisfied_by.is_none())
        .map(|item| item.key.clone())
        .collect();
    keys.sort_unstable();
    keys
}
