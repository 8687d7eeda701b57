//! Who has to be told of a rotation or an alert: found out when the notice is looked at, from what stands then.

use super::outbox::{Outbox, Verdict};
use crate::domain::id::OrganizationId;
use crate::domain::installation::{Installation, InstallationState};
use crate::domain::resolution::slots;
use crate::domain::scope::{Owner, Scope, Slot};
use crate::registry::{self, PolicyRecord, Registered, RegistryError, policy_of};
use crate::store::{Notice, OutboxRow, Page, Rotated, StoreError, Tenancy};

/// Installations that are read at a time.
const PAGE_ROWS: u32 = 500;

impl Outbox {
    /// One notice for each enabled installation that subscribes, demands the key, and asks at the place that changed.
    pub(super) async fn expand_rotation(&self, rotated: &Rotated) -> Verdict {
        match self.subscribers(rotated).await {
            Ok(rows) => Verdict::Expanded(rows),
            Err(error) => Verdict::Failed(error.to_string()),
        }
    }

    async fn subscribers(&self, rotated: &Rotated) -> Result<Vec<OutboxRow>, StoreError> {
        let sources = &self.sources;
        let tenancy = match &rotated.slot.owner {
            Owner::Organization(organization) => Tenancy::Organization(organization.clone()),
            Owner::Partner => Tenancy::Platform,
        };
        let mut found = Vec::new();
        let mut page = Page {
            after: None,
            limit: PAGE_ROWS,
        };
        loop {
            let listed = sources.store.installations(&tenancy, &page).await?;
            let near = listed.rows.into_iter().map(|row| row.installation);
            for installation in near.filter(|installation| may_ask(installation, &rotated.slot)) {
                let registered = match registry::load(&sources.store, &sources.keyring, &installation.id).await {
                    Ok(registered) => registered,
                    Err(RegistryError::Store(error)) => return Err(error),
                    Err(_) => continue, // nothing is sent where a record does not authenticate; the secret audit tells
                };
                if registered.is_some_and(|registered| subscribes(&registered, &rotated.slot)) {
                    let organization = Some(installation.organization.clone());
                    let notice = Notice::RotationWebhook {
                        installation: installation.id.clone(),
                        rotated: rotated.clone(),
                    };
                    found.push(notice.row(organization, sources.clock.now()));
                }
            }
            match listed.next {
                Some(next) => page.after = Some(next),
                None => return Ok(found),
            }
        }
    }

    /// One notice for each target of the organization's policy.
    pub(super) async fn expand_alert(&self, id: &str) -> Verdict {
        let sources = &self.sources;
        let alert = match sources.store.alert(id).await {
            Ok(Some(alert)) => alert,
            Ok(None) => return Verdict::Dropped,
            Err(error) => return Verdict::Failed(error.to_string()),
        };
        let targets = match &alert.organization {
            None => Vec::new(), // the platform's operators have the log and the list
            Some(organization) => match self.targets(organization, id).await {
                Ok(targets) => targets,
                Err(error) => return Verdict::Failed(error.to_string()),
            },
        };
        self.metrics.alerts.inc(alert.kind);
        tracing::warn!(
            alert = alert.id,
            kind = alert.kind.name(),
            severity = alert.kind.severity().name(),
            "an alert was raised"
        );
        Verdict::Expanded(targets)
    }

    async fn targets(&self, organization: &OrganizationId, alert: &str) -> Result<Vec<OutboxRow>, RegistryError> {
        let PolicyRecord { policy, .. } = policy_of(&self.sources.store, &self.sources.keyring, organization).await?;
        let webhook = policy.webhook_url.map(|url| Notice::AlertWebhook {
            alert: alert.to_owned(),
            url,
        });
        let emails = match &self.mailer {
            Some(_) => policy.emails,
            None => Vec::new(), // said once, at the start
        };
        let mails = emails.into_iter().map(|address| Notice::AlertMail {
            alert: alert.to_owned(),
            address,
        });
        let now = self.sources.clock.now();
        let notices = webhook.into_iter().chain(mails);
        Ok(notices
            .map(|notice| notice.row(Some(organization.clone()), now))
            .collect())
    }
}

/// Whether an installation could ask at a slot at all, before its records are read.
fn may_ask(installation: &Installation, slot: &Slot) -> bool {
    let id = slot.scope_id.as_str();
    installation.state == InstallationState::Enabled
        && match slot.scope {
            Scope::ExtensionInstallation => installation.id.as_str() == id,
            Scope::ProductInstallation => installation
                .product_installation
                .as_ref()
                .is_some_and(|product| product.as_str() == id),
            Scope::Extension => installation.extension.as_str() == id,
            Scope::Project => installation.project.as_str() == id,
            Scope::Organization => installation.organization.as_str() == id,
        }
}

/// Whether an installation wants to hear of rotations and asks for a key at this very slot.
pub(super) fn subscribes(registered: &Registered, slot: &Slot) -> bool {
    let Registered {
        installation,
        manifest,
        partner_defaults,
        ..
    } = registered;
    // A key that the organization has not accepted is none of the extension's.
    let demand = registered.demand();
    let mut accepted = demand.used_keys().filter(|used| !demand.withheld.contains(used));
    let wants = manifest
        .callback
        .as_ref()
        .is_some_and(|callback| callback.rotation_webhook);
    installation.state == InstallationState::Enabled
        && wants
        && accepted.any(|used| used.key == slot.key)
        && slots(installation, *partner_defaults, &slot.key).contains(slot)
}
