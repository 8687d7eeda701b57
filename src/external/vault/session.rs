//! As whom Vault is asked: a token from a login, renewed at two thirds of its lease, in memory only.

use std::sync::Arc;

use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::super::OpenError;
use super::super::failed::Failed;
use super::super::tries::Tries;
use super::api::Api;
use crate::clock::Clock;
use crate::domain::provider::{Unavailable, VaultAuth};
use crate::domain::time::Timestamp;

/// Where a token looks itself up, below `/v1/`.
pub(super) const LOOKUP_SELF: &str = "auth/token/lookup-self";

/// Where a token renews itself.
const RENEW_SELF: &str = "auth/token/renew-self";

/// A token, until another one takes its place.
pub(super) struct Session {
    token: Arc<SecretString>,
    /// `None` for a token that does not end, or of which that is not known.
    lease: Option<Lease>,
}

#[derive(Clone, Copy)]
struct Lease {
    renewable: bool,
    /// How long it is, in milliseconds.
    millis: u64,
    /// Two thirds of it.
    renew_at: Timestamp,
    ends_at: Timestamp,
}

impl Session {
    pub(super) fn token(&self) -> &SecretString {
        &self.token
    }
}

impl Lease {
    /// `None` for one that does not end.
    fn new(secs: u64, renewable: bool, now: Timestamp) -> Option<Self> {
        let millis = secs.saturating_mul(1_000);
        (millis > 0).then(|| Self {
            renewable,
            millis,
            renew_at: now.plus_millis(millis / 3 * 2),
            ends_at: now.plus_millis(millis),
        })
    }

    /// The same lease, looked at again after a third of what is left.
    fn postponed(self, now: Timestamp) -> Self {
        let left = self.ends_at.0.saturating_sub(now.0);
        Self {
            renew_at: now.plus_millis(left / 3),
            ..self
        }
    }
}

/// The token that is used, and how to come by the next. Whoever needs one waits for whoever is at it.
pub(super) struct Sessions {
    auth: VaultAuth,
    credential: Arc<SecretString>,
    clock: Arc<dyn Clock>,
    held: Mutex<Option<Arc<Session>>>,
}

/// An answer to a login or a renewal. What it holds is freed into a wiping allocator.
#[derive(Deserialize)]
struct LoggedIn {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    client_token: String,
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

/// An answer to a lookup.
#[derive(Deserialize)]
struct LookedUp {
    data: TokenData,
}

#[derive(Deserialize)]
struct TokenData {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

#[derive(Serialize)]
struct AppRoleLogin<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

#[derive(Serialize)]
struct JwtLogin<'a> {
    role: &'a str,
    jwt: &'a str,
}

impl Sessions {
    pub(super) fn new(auth: VaultAuth, credential: SecretString, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        // Tokens are kept in files, and files end with a line break.
        let trimmed = credential.expose_secret().trim_ascii();
        if trimmed.is_empty() || trimmed.chars().any(char::is_control) {
            return Err(OpenError::CredentialMalformed);
        }
        Ok(Self {
            auth,
            credential: Arc::new(SecretString::from(trimmed)),
            clock,
            held: Mutex::new(None),
        })
    }

    pub(super) const fn auth(&self) -> &VaultAuth {
        &self.auth
    }

    /// The token to ask with: the one that is held, renewed where its time has come, or a new one.
    pub(super) async fn current(&self, api: &Api, tries: Tries) -> Result<Arc<Session>, Failed> {
        let mut held = self.held.lock().await;
        let now = self.clock.now();
        let kept = match held.as_ref().map(Arc::clone) {
            None => None,
            Some(session) => match session.lease {
                None => Some(session),
                Some(lease) if now < lease.renew_at => Some(session),
                Some(lease) if now < lease.ends_at => self.renewed(session, lease, api, tries).await,
                Some(_) => None,
            },
        };
        let session = match kept {
            Some(session) => session,
            None => Arc::new(self.login(api, tries).await?),
        };
        *held = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Another token than one that Vault did not take. Somebody else may have come by it already.
    pub(super) async fn instead_of(
        &self,
        refused: &Arc<Session>,
        api: &Api,
        tries: Tries,
    ) -> Result<Arc<Session>, Failed> {
        if matches!(self.auth, VaultAuth::Token { .. }) {
            return Err(Failed::Denied);
        }
        let mut held = self.held.lock().await;
        match held.as_ref() {
            Some(session) if !Arc::ptr_eq(session, refused) => Ok(Arc::clone(session)),
            _ => {
                *held = None;
                let session = Arc::new(self.login(api, tries).await?);
                *held = Some(Arc::clone(&session));
                Ok(session)
            }
        }
    }

    /// A token from a login made now, whatever is held.
    pub(super) async fn anew(&self, api: &Api, tries: Tries) -> Result<Arc<Session>, Failed> {
        let mut held = self.held.lock().await;
        let session = Arc::new(self.login(api, tries).await?);
        *held = Some(Arc::clone(&session));
        Ok(session)
    }

    /// What a token whose renewal is due becomes; `None` where a login is the better way. A Vault that cannot renew it
    /// now is asked again later: the token is good until it ends.
    async fn renewed(&self, session: Arc<Session>, lease: Lease, api: &Api, tries: Tries) -> Option<Arc<Session>> {
        let can_log_in = !matches!(self.auth, VaultAuth::Token { .. });
        let with = |lease: Option<Lease>| {
            let token = Arc::clone(&session.token);
            Some(Arc::new(Session { token, lease }))
        };
        if !lease.renewable {
            return if can_log_in { None } else { with(None) };
        }
        let answer = api.post(RENEW_SELF, Some(&session.token), b"{}", tries).await;
        let now = self.clock.now();
        let Ok(answer) = answer else {
            return with(Some(lease.postponed(now)));
        };
        let renewed: Option<LoggedIn> = (answer.status == StatusCode::OK)
            .then(|| serde_json::from_slice(&answer.body).ok())
            .flatten();
        match renewed {
            // Near the end of what a token may come to, its leases get shorter and shorter.
            Some(LoggedIn { auth }) if can_log_in && auth.lease_duration.saturating_mul(1_000) < lease.millis / 2 => {
                None
            }
            Some(LoggedIn { auth }) => with(Lease::new(auth.lease_duration, auth.renewable, now)),
            None if can_log_in => None,
            // There is no other token: whether this one is good shows where it is used.
            None => with(None),
        }
    }

    async fn login(&self, api: &Api, tries: Tries) -> Result<Session, Failed> {
        let (path, body) = match &self.auth {
            VaultAuth::Token { .. } => return self.own_token(api, tries).await,
            VaultAuth::AppRole { mount, role, .. } => {
                let role_id = role.as_str();
                let secret_id = self.credential.expose_secret();
                (mount, serde_json::to_vec(&AppRoleLogin { role_id, secret_id }))
            }
            VaultAuth::Jwt { mount, role, .. } | VaultAuth::Kubernetes { mount, role, .. } => {
                let jwt = self.credential.expose_secret();
                (mount, serde_json::to_vec(&JwtLogin { role, jwt }))
            }
        };
        let body = Zeroizing::new(body.map_err(|_| Unavailable::LoginFailed)?); // texts can always be written
        let answer = api.post(&format!("auth/{path}/login"), None, &body, tries).await?;
        match answer.status {
            StatusCode::OK => {}
            // Vault says 400 of a wrong secret id, 403 of a wrong JWT.
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Failed::Denied),
            _ => return Err(Unavailable::LoginFailed.into()),
        }
        let LoggedIn { auth } = serde_json::from_slice(&answer.body).map_err(|_| Unavailable::WrongShape)?;
        if auth.client_token.is_empty() {
            return Err(Unavailable::WrongShape.into());
        }
        Ok(Session {
            token: Arc::new(SecretString::from(auth.client_token)),
            lease: Lease::new(auth.lease_duration, auth.renewable, self.clock.now()),
        })
    }

    /// A token that was made elsewhere is looked up, to be renewed in time. One that may not look itself up is used as
    /// it is.
    async fn own_token(&self, api: &Api, tries: Tries) -> Result<Session, Failed> {
        let answer = api.get(LOOKUP_SELF, &self.credential, tries).await?;
        let looked_up: Option<LookedUp> = serde_json::from_slice(&answer.body).ok();
        let data = looked_up.map(|looked_up| looked_up.data);
        Ok(Session {
            token: Arc::clone(&self.credential),
            lease: data
                .filter(|_| answer.status == StatusCode::OK)
                .and_then(|data| Lease::new(data.ttl, data.renewable, self.clock.now())),
        })
    }
}
