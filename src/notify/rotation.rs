//! How an extension hears of a rotation: `POST <callback>/webhooks/secret.rotated`, as its deliveries come, without a
//! value.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use serde::Serialize;

use super::fan_out::subscribes;
use super::outbox::{Outbox, Verdict};
use super::post::{Notification, Sign};
use crate::bundles::{Bundle, Obstacle, Ready, Standing};
use crate::domain::id::InstallationId;
use crate::registry;
use crate::store::Rotated;

/// The event's name, which its path ends with.
const EVENT: &str = "secret.rotated";

/// What comes after the callback's own path.
const PATH: &str = "/webhooks/secret.rotated";

/// The event's version.
const VERSION: &str = "v1";

/// What an extension is told.
#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    event: &'static str,
    key: &'a str,
    scope: &'static str,
    version: u64,
    rotated_at: String,
}

impl Outbox {
    /// One attempt to tell an installation. The bundle is at most as old as any delivery's: where another instance
    /// wrote the change, the feed may be a second behind.
    pub(super) async fn tell_installation(
        &self,
        id: &str,
        installation: &InstallationId,
        rotated: &Rotated,
    ) -> Verdict {
        let sources = &self.sources;
        match registry::load(&sources.store, &sources.keyring, installation).await {
            Ok(Some(registered)) if subscribes(&registered, &rotated.slot) => {}
            Ok(_) => return Verdict::Dropped,
            Err(error) => return Verdict::Failed(error.to_string()),
        }
        let bundle = match self.bundles.get(installation).await {
            Ok(found) => found.bundle,
            Err(error) => return Verdict::Failed(error.to_string()),
        };
        let ready = match &bundle.standing {
            Standing::Unknown => return Verdict::Dropped,
            Standing::Installed {
                readiness: Ok(ready), ..
            } => ready,
            Standing::Installed {
                readiness: Err(Obstacle::NotEnabled),
                ..
            } => return Verdict::Dropped,
            Standing::Installed { readiness: Err(_), .. } => {
                return Verdict::Failed(String::from("nothing can be delivered to the installation"));
            }
        };
        if ready.identity_until.is_some_and(|until| sources.clock.now() >= until) {
            return Verdict::Failed(String::from("the client certificate has ended"));
        }
        let body = Body {
            id,
            event: EVENT,
            key: rotated.slot.key.as_str(),
            scope: rotated.slot.scope.name(),
            version: rotated.version,
            rotated_at: rotated.at.to_rfc3339(),
        };
        let body = Bytes::from(serde_json::to_vec(&body).unwrap_or_default()); // texts always serialize
        let notification = Notification {
            route: Arc::clone(&ready.route),
            path: PATH,
            version: Some(VERSION),
            sign: self.signature_of(&bundle, ready, id, body.clone()),
            body,
        };
        match self.post.send(notification).await {
            Ok(()) => Verdict::Delivered,
            Err(error) => Verdict::Failed(error.to_string()),
        }
    }

    /// The installation's own signature, where its manifest names signing keys.
    fn signature_of(&self, bundle: &Arc<Bundle>, ready: &Ready, id: &str, body: Bytes) -> Option<Sign> {
        ready.signers.as_ref()?;
        let (bundle, id, clock) = (Arc::clone(bundle), id.to_owned(), Arc::clone(&self.sources.clock));
        Some(Box::new(move |headers: &mut HeaderMap| {
            if let Standing::Installed {
                readiness: Ok(Ready {
                    signers: Some(signers), ..
                }),
                ..
            } = &bundle.standing
            {
                signers.sign(clock.now(), &id, [&body, b"", b""]).apply(headers);
            }
        }))
    }
}
