//! How API tokens are made, found and removed, and how a stored one is told from one that somebody wrote into the
//! database.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::rows::slices;
use crate::clock::Clock;
use crate::crypto::encoding::Encoder;
use crate::crypto::keyring::Keyring;
use crate::crypto::token::MintedToken;
use crate::domain::audit::{Action, Asker, AuditEntry};
use crate::domain::change::Changed;
use crate::domain::id::{OrganizationId, ScopeId};
use crate::domain::time::Timestamp;
use crate::store::{Change, Page, Role, SharedStore, StoreError, Tenancy, TokenRow, Write};

const TOKENS: &str = "tokens";

/// The most tokens kept in memory; past it all are forgotten and read again as they come.
const KNOWN_MAX: usize = 10_000;

/// Unknown tokens that are looked up in a minute. More are not looked at: guessing costs the store nothing.
const UNKNOWN_PER_MINUTE_MAX: u32 = 600;

const MINUTE_MILLIS: u64 = 60_000;

/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// The tokens of the instance: those that were used lately are in memory, until any token changes.
pub struct Tokens {
    store: SharedStore,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    by_hash: HashMap<[u8; 32], Arc<KnownToken>>,
    /// Counts how often all were forgotten: what was read before is not put in after.
    forgotten: u64,
    /// The minute in which unknown ones are counted, and how many there were.
    unknown: (u64, u32),
    /// When tokens were used, by id; outlives what is forgotten, so that no use is lost with it.
    uses: HashMap<String, Arc<Use>>,
}

/// When a token was used, and what of it the store knows.
#[derive(Debug, Default)]
struct Use {
    used_at: AtomicU64,
    noted_at: AtomicU64,
}

/// A token that was found authentic.
#[derive(Debug)]
pub struct KnownToken {
    /// The row.
    pub row: TokenRow,
    usage: Arc<Use>,
}

/// A token to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Where.
    pub organization: Option<OrganizationId>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// A token just made.
pub struct MadeToken {
    /// The row.
    pub row: TokenRow,
    /// Its text, which nobody sees again.
    pub text: String,
    /// What caches have to drop.
    pub changed: Vec<Changed>,
}

/// Why a token was not made, found or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The store's fault. Retry as the store's error says.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No name for people.
    #[error("name has 1 to 128 bytes without control characters")]
    Name,
    /// An admin or auditor of no organization would be let in nowhere.
    #[error("this role needs an organization_id")]
    Unbound,
    /// An operator of one organization would be none.
    #[error("an operator's token belongs to no organization")]
    Bound,
    /// It would be over before it began.
    #[error("expires_at is not in the future")]
    Past,
    /// With its end nobody could make another.
    #[error("one operator token without an end has to exist before one with an end is made")]
    OnlyOperatorEnds,
    /// Without it nobody could make another.
    #[error("the last operator token without an end cannot be removed")]
    LastOperator,
    /// It was removed meanwhile.
    #[error("there is no such token")]
    Gone,
    /// Somebody wrote it into the database. An operator has to look into it.
    #[error("a stored token does not authenticate")]
    Forged,
    /// Too many unknown tokens were presented in this minute. Retry later.
    #[error("too many unknown tokens")]
    TooMany,
    /// The system's fault.
    #[error("internal error")]
    Internal,
}

impl KnownToken {
    /// Whether it can be used at this moment.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.row.expires_at.is_none_or(|end| now < end)
    }

    /// Remembers a use. Writes nothing.
    pub fn used(&self, now: Timestamp) {
        self.usage.used_at.fetch_max(now.0, Ordering::Relaxed);
    }
}

impl Use {
    /// A use in a later minute than the last one noted.
    fn unnoted(&self) -> Option<Timestamp> {
        let (used, noted) = (
            self.used_at.load(Ordering::Relaxed),
            self.noted_at.load(Ordering::Relaxed),
        );
        (used / MINUTE_MILLIS > noted / MINUTE_MILLIS).then_some(Timestamp(used))
    }
}

impl Tokens {
    /// The tokens of a store.
    #[must_use]
    pub fn new(store: SharedStore, keyring: Arc<Keyring>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            keyring,
            clock,
            known: Mutex::default(),
        }
    }

    /// A token that is in memory.
    #[must_use]
    pub fn known(&self, hash: &[u8; 32]) -> Option<Arc<KnownToken>> {
        self.lock().by_hash.get(hash).map(Arc::clone)
    }

    /// A token from memory or the store; `None` where there is none. Belongs on the control
    /// runtime.
    ///
    /// # Errors
    /// [`TokenError::Store`], [`TokenError::Forged`], or [`TokenError::TooMany`] where others presented too many unknown ones.
    pub async fn find(&self, hash: &[u8; 32]) -> Result<Option<Arc<KnownToken>>, TokenError> {
        let minute = self.clock.now().0 / MINUTE_MILLIS;
        let forgotten = {
            let known = self.lock();
            if let Some(token) = known.by_hash.get(hash) {
                return Ok(Some(Arc::clone(token)));
            }
            if known.unknown.0 == minute && known.unknown.1 >= UNKNOWN_PER_MINUTE_MAX {
                return Err(TokenError::TooMany);
            }
            known.forgotten
        };
        let row = self.store.token(hash).await?;
        let mut known = self.lock();
        let authentic = row.map(|row| token_is_authentic(&self.keyring, &row).then_some(row));
        let Some(Some(row)) = authentic else {
            known.unknown = match known.unknown {
                (counted, n) if counted == minute => (minute, n.saturating_add(1)),
                _ => (minute, 1),
            };
            return authentic.map_or(Ok(None), |_| Err(TokenError::Forged));
        };
        let usage = known.usage(&row);
        let token = Arc::new(KnownToken { row, usage });
        if known.forgotten == forgotten {
            if known.by_hash.len() >= KNOWN_MAX {
                known.forget();
            }
            known.by_hash.insert(*hash, Arc::clone(&token));
        }
        Ok(Some(token))
    }

    /// Drops what is in memory as changes tell.
    pub fn apply(&self, changes: &[Changed]) {
        let touches = |change: &Changed| matches!(change, Changed::Tokens | Changed::Everything);
        if changes.iter().any(touches) {
            self.lock().forget();
        }
    }

    /// Notes in the store which tokens were used, to the minute. Meant to run now and then; what cannot be noted is
    /// tried again with the next use.
    pub async fn note_uses(&self) {
        let uses: Vec<(String, Timestamp)> = {
            let mut known = self.lock();
            let unnoted = known.uses.iter().filter_map(|(id, usage)| {
                let at = usage.unnoted()?;
                usage.noted_at.store(at.0, Ordering::Relaxed);
                Some((id.clone(), at))
            });
            let unnoted = unnoted.collect();
            // Nobody holds the token any more, so nobody uses it.
            known.uses.retain(|_, usage| Arc::strong_count(usage) > 1);
            unnoted
        };
        if uses.is_empty() {
            return;
        }
        let writes = uses.into_iter().map(|(id, at)| Write::TokenUsed { id, at }).collect();
        let noted = self.store.commit(Change {
            writes,
            entries: Vec::new(),
        });
        if noted.await.is_err() {
            tracing::warn!("when tokens were last used could not be noted");
        }
    }

    /// Makes a token.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn make(&self, asker: &Asker, new: NewToken) -> Result<MadeToken, TokenError> {
        let now = self.clock.now();
        if !(1..=NAME_BYTES_MAX).contains(&new.name.len()) || new.name.chars().any(char::is_control) {
            return Err(TokenError::Name);
        }
        match (new.role, &new.organization) {
            (Role::OrgAdmin | Role::Auditor, None) => return Err(TokenError::Unbound),
            (Role::PlatformOperator, Some(_)) => return Err(TokenError::Bound),
            _ => {}
        }
        if new.expires_at.is_some_and(|end| end <= now) {
            return Err(TokenError::Past);
        }
        let ends = new.expires_at.is_some();
        if new.role == Role::PlatformOperator && ends && !self.has_endless_operator().await? {
            return Err(TokenError::OnlyOperatorEnds);
        }
        let minted = MintedToken::mint().map_err(|_| TokenError::Internal)?;
        let row = TokenRow {
            id: minted.id.clone(),
            hash: self.keyring.token_hash(&minted.text),
            name: new.name,
            role: new.role,
            organization: new.organization,
            created_by: asker.actor.name.clone(),
            created_at: now,
            expires_at: new.expires_at,
            last_used_at: None,
            mac: Vec::new(),
        };
        let row = sealed_token(&self.keyring, row);
        let change = Change {
            writes: vec![Write::Token(row.clone())],
            entries: vec![entry(asker, &row, Action::TokenCreate, now)],
        };
        self.store.commit(change).await?;
        Ok(MadeToken {
            row,
            text: minted.into_text(),
            changed: vec![Changed::Tokens],
        })
    }

    /// The token of this id, where a tenancy may see it.
    ///
    /// # Errors
    /// [`TokenError::Store`].
    pub async fn named(&self, tenancy: &Tenancy, id: &str) -> Result<Option<TokenRow>, TokenError> {
        let row = self.store.token_by_id(id).await?;
        Ok(row.filter(|row| match tenancy {
            Tenancy::Platform => true,
            Tenancy::Organization(organization) => row.organization.as_ref() == Some(organization),
        }))
    }

    /// Removes a token.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn remove(&self, asker: &Asker, row: &TokenRow) -> Result<Vec<Changed>, TokenError> {
        let change = Change {
            writes: vec![Write::TokenGone { id: row.id.clone() }],
            entries: vec![entry(asker, row, Action::TokenDelete, self.clock.now())],
        };
        match self.store.commit(change).await {
            Ok(()) => Ok(vec![Changed::Tokens]),
            // Somebody else removed it, or the store keeps it as the last.
            Err(StoreError::Conflict) if self.store.token_by_id(&row.id).await?.is_none() => Err(TokenError::Gone),
            Err(StoreError::Conflict) => Err(TokenError::LastOperator),
            Err(error) => Err(error.into()),
        }
    }

    async fn has_endless_operator(&self) -> Result<bool, TokenError> {
        let mut page = Page {
            after: None,
            limit: 1_000,
        };
        loop {
            let listed = self.store.tokens(&Tenancy::Platform, &page).await?;
            let is_endless = |row: &TokenRow| row.role == Role::PlatformOperator && row.expires_at.is_none();
            if listed.rows.iter().any(is_endless) {
                return Ok(true);
            }
            match listed.next {
                None => return Ok(false),
                next => page.after = next,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Every critical section leaves the map consistent at each step, so a poisoned lock is still sound.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn forget(&mut self) {
        self.forgotten = self.forgotten.wrapping_add(1);
        self.by_hash.clear();
    }

    fn usage(&mut self, row: &TokenRow) -> Arc<Use> {
        let usage = self.uses.entry(row.id.clone()).or_default();
        let noted = row.last_used_at.map_or(0, |at| at.0);
        usage.noted_at.fetch_max(noted, Ordering::Relaxed);
        usage.used_at.fetch_max(noted, Ordering::Relaxed);
        Arc::clone(usage)
    }
}

fn entry(asker: &Asker, row: &TokenRow, action: Action, at: Timestamp) -> AuditEntry {
    AuditEntry {
        subject: ScopeId::parse(&row.id).ok(),
        ..asker.entry(row.organization.clone(), at, action)
    }
}

fn fields(row: &TokenRow) -> [Vec<u8>; 1] {
    let fields = Encoder::new("kiket.token-row.v1")
        .text(&row.id)
        .bytes(&row.hash)
        .text(&row.name)
        .text(row.role.name())
        .optional(row.organization.as_ref(), |encoder, id| encoder.text(id.as_str()))
        .text(&row.created_by)
        .number(row.created_at.0)
        .optional(row.expires_at, |encoder, at| encoder.number(at.0));
    [fields.finish()]
}

/// The row with its MAC, ready to be stored.
#[must_use]
pub fn sealed_token(keyring: &Keyring, mut row: TokenRow) -> TokenRow {
    row.mac = keyring.row_mac(TOKENS, &slices(&fields(&row))).to_vec();
    row
}

/// Whether a row is as it was stored: role, organization and end included.
#[must_use]
pub fn token_is_authentic(keyring: &Keyring, row: &TokenRow) -> bool {
    keyring.row_mac_holds(TOKENS, &slices(&fields(row)), &row.mac)
}
