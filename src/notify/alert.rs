//! How admins hear of an alert: a signed post to their webhook, a mail to each address.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use serde::Serialize;

use super::mail::Mail;
use super::outbox::{Outbox, Verdict};
use super::post::{Notification, Sign};
use crate::crypto::signature::Signers;
use crate::delivery::Route;
use crate::domain::alert::Alert;
use crate::domain::destination::{Destination, Scheme};
use crate::domain::id::OrganizationId;
use crate::domain::key::SecretKey;
use crate::domain::policy::Policy;
use crate::domain::scope::{Owner, Scope, Slot};
use crate::registry::policy_of;
use crate::secrets::resolve::with_predecessors;

/// The event's name.
const EVENT: &str = "secret.alert";

/// The event's version.
const VERSION: &str = "v1";

/// The longest that an organization's webhook may take.
const WEBHOOK_WAIT: Duration = Duration::from_secs(10);

/// What an organization's webhook is told.
#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    event: &'static str,
    alert_id: &'a str,
    organization_id: &'a str,
    kind: &'static str,
    severity: &'static str,
    scope: Option<&'static str>,
    scope_id: Option<&'a str>,
    key: Option<&'a str>,
    detail: &'a str,
    raised_at: String,
}

/// An alert and whom it concerns, as both stand now.
struct Concern {
    alert: Alert,
    organization: OrganizationId,
    policy: Policy,
}

impl Outbox {
    /// One attempt to post an alert. Dropped where the policy names another webhook by now.
    pub(super) async fn post_alert(&self, id: &str, alert: &str, url: &str) -> Verdict {
        let Concern {
            alert,
            organization,
            policy,
        } = match self.concern(alert).await {
            Ok(concern) => concern,
            Err(verdict) => return verdict,
        };
        if policy.webhook_url.as_deref() != Some(url) {
            return Verdict::Dropped;
        }
        let signers = match self.signers(&organization, &policy).await {
            Ok(signers) => Arc::new(signers),
            Err(reason) => return Verdict::Failed(reason),
        };
        let Some(route) = self.webhook_route(url) else {
            return Verdict::Failed(String::from("the webhook's address is none that may be posted to"));
        };
        let body = Body {
            id,
            event: EVENT,
            alert_id: &alert.id,
            organization_id: organization.as_str(),
            kind: alert.kind.name(),
            severity: alert.kind.severity().name(),
            scope: alert.scope.map(Scope::name),
            scope_id: alert.subject.as_ref().map(|subject| subject.as_str()),
            key: alert.key.as_ref().map(SecretKey::as_str),
            detail: &alert.detail,
            raised_at: alert.raised_at.to_rfc3339(),
        };
        let body = Bytes::from(serde_json::to_vec(&body).unwrap_or_default()); // texts always serialize
        let (signed, id, clock) = (body.clone(), id.to_owned(), Arc::clone(&self.sources.clock));
        let sign: Sign = Box::new(move |headers: &mut HeaderMap| {
            signers.sign(clock.now(), &id, [&signed, b"", b""]).apply(headers);
        });
        let notification = Notification {
            route: Arc::new(route),
            path: "",
            version: Some(VERSION),
            body,
            sign: Some(sign),
        };
        match self.post.send(notification).await {
            Ok(()) => Verdict::Delivered,
            Err(error) => Verdict::Failed(error.to_string()),
        }
    }

    /// One attempt to mail an alert. Dropped where the policy does not name the address any more.
    pub(super) async fn mail_alert(&self, id: &str, alert: &str, address: &str) -> Verdict {
        let Concern {
            alert,
            organization,
            policy,
        } = match self.concern(alert).await {
            Ok(concern) => concern,
            Err(verdict) => return verdict,
        };
        let is_named = policy.emails.iter().any(|email| email == address);
        let Some(mailer) = self.mailer.as_ref().filter(|_| is_named) else {
            return Verdict::Dropped;
        };
        let mail = Mail {
            id: id.to_owned(),
            to: address.to_owned(),
            subject: subject(&alert),
            text: text(&alert, &organization),
            at: alert.raised_at,
        };
        match mailer.send(&mail).await {
            Ok(()) => Verdict::Delivered,
            Err(error) => Verdict::Failed(error.to_string()),
        }
    }

    async fn concern(&self, alert: &str) -> Result<Concern, Verdict> {
        let failed = |error: &dyn std::error::Error| Verdict::Failed(error.to_string());
        let alert = self.sources.store.alert(alert).await.map_err(|error| failed(&error))?;
        let alert = alert.ok_or(Verdict::Dropped)?;
        let organization = alert.organization.clone().ok_or(Verdict::Dropped)?;
        let record = policy_of(&self.sources.store, &self.sources.keyring, &organization).await;
        Ok(Concern {
            alert,
            policy: record.map_err(|error| failed(&error))?.policy,
            organization,
        })
    }

    /// What signs an organization's posts. Never unsigned: without a secret the post waits for one.
    async fn signers(&self, organization: &OrganizationId, policy: &Policy) -> Result<Signers, String> {
        let key = policy.webhook_signing_key.as_deref();
        let key = key
            .and_then(|key| SecretKey::parse(key).ok())
            .ok_or("the policy names no signing key")?;
        let slot = Slot {
            owner: Owner::Organization(organization.clone()),
            scope: Scope::Organization,
            scope_id: organization.into(),
            key,
        };
        let secret = self
            .secrets
            .own_signing_secret(&slot)
            .await
            .map_err(|error| error.to_string())?;
        let secret = secret.ok_or("the policy's signing key has no value at the organization")?;
        Signers::new(with_predecessors(vec![secret]), self.prefix).map_err(|error| error.to_string())
    }

    /// The guarded way to a webhook.
    fn webhook_route(&self, url: &str) -> Option<Route> {
        let destination = Destination::parse(url).ok()?;
        let client = match destination.scheme {
            Scheme::Https => Some(self.plain.clone()),
            Scheme::Http if self.allow_http => None,
            Scheme::Http => return None,
        };
        Some(Route::new(destination, WEBHOOK_WAIT, client))
    }
}

fn subject(alert: &Alert) -> String {
    let key = alert.key.as_ref().map_or(String::new(), |key| format!(": {key}"));
    format!("[Kiket] {} {}{key}", alert.kind.severity().name(), alert.kind.name())
}

fn text(alert: &Alert, organization: &OrganizationId) -> String {
    let mut lines = vec![
        format!("Organization: {organization}"),
        format!("Alert: {} ({})", alert.kind.name(), alert.kind.severity().name()),
    ];
    if let (Some(scope), Some(subject)) = (alert.scope, &alert.subject) {
        lines.push(format!("Scope: {scope} {subject}"));
    }
    if let Some(key) = &alert.key {
        lines.push(format!("Key: {key}"));
    }
    lines.push(format!("What: {}", alert.detail));
    lines.push(format!("When: {}", alert.raised_at.to_rfc3339()));
    lines.push(String::new());
    lines.push(format!(
        "Acknowledge it with its id, {}, once somebody has looked.",
        alert.id
    ));
    lines.join("\r\n")
}
