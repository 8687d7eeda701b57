//! How a secret is fetched from Vault: KV of both versions, read with a token that is kept in memory.
//!
//! What a Vault answers is judged by its status; no text of it goes anywhere. A standby that cannot forward redirects
//! to the active node: that is not followed, so a provider's address is one that answers itself, as a load balancer
//! in front of the cluster does.

mod api;
mod read;
mod session;
mod transit;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use secrecy::SecretString;

pub use self::transit::{Transit, TransitError};

use self::api::Api;
use self::session::{Session, Sessions};
use super::failed::{Failed, checked, fetched};
use super::tries::Tries;
use super::value::Marks;
use super::{Checked, ExternalSource, Fetched, OpenError};
use crate::clock::Clock;
use crate::domain::provider::{Target, Unavailable, VaultAuth, VaultSettings, VaultTarget};
use crate::egress::{Answer, Exchanger};

/// A Vault, as one organization may see it.
pub(super) struct VaultSource {
    api: Api,
    sessions: Sessions,
    marks: Marks,
}

impl VaultSource {
    pub(super) fn new(
        settings: &VaultSettings,
        exchanger: Exchanger,
        credential: SecretString,
        clock: Arc<dyn Clock>,
        marks: Marks,
    ) -> Result<Self, OpenError> {
        Ok(Self {
            api: Api::new(settings, exchanger).ok_or(OpenError::CredentialMalformed)?,
            sessions: Sessions::new(settings.auth.clone(), credential, clock)?,
            marks,
        })
    }

    async fn read(&self, target: &VaultTarget, tries: Tries) -> Result<Fetched, Failed> {
        let session = self.sessions.current(&self.api, tries).await?;
        let mut answer = self.ask_for(target, &session, tries).await?;
        if answer.status == StatusCode::FORBIDDEN {
            // The token may have been revoked, or its policies changed: a new one tells.
            let session = self.sessions.instead_of(&session, &self.api, tries).await?;
            answer = self.ask_for(target, &session, tries).await?;
        }
        Ok(read::judge(target, &answer, &self.marks))
    }

    async fn ask_for(&self, target: &VaultTarget, session: &Session, tries: Tries) -> Result<Answer, Unavailable> {
        self.api.get(&read::path(target), session.token(), tries).await
    }

    async fn look(&self, tries: Tries) -> Result<(), Failed> {
        let session = self.sessions.anew(&self.api, tries).await?;
        let looked_up = self.api.get(session::LOOKUP_SELF, session.token(), tries).await?;
        // A token without the default policy may not look itself up; one that was just handed out is good all the same.
        let is_known_good = !matches!(self.sessions.auth(), VaultAuth::Token { .. });
        match looked_up.status {
            StatusCode::OK => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if is_known_good => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failed::Denied),
            _ => Err(Unavailable::WrongShape.into()),
        }
    }
}

#[async_trait]
impl ExternalSource for VaultSource {
    async fn fetch(&self, target: &Target, within: Duration) -> Fetched {
        let Target::Vault(target) = target else {
            return Fetched::Denied; // another backend's: no provider of this kind makes one
        };
        let tries = Tries::within(within);
        fetched(tries, self.read(target, tries)).await
    }

    async fn check(&self, within: Duration) -> Checked {
        let tries = Tries::within(within);
        checked(tries, self.look(tries)).await
    }
}
