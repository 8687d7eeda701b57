//! How a secret is fetched from Google Secret Manager: REST API v1, read with a token that is kept in memory.
//!
//! What Google answers is judged by its status, and where one stands for several things by the words that Google keeps
//! for them; no text of it goes anywhere. Where Google's states meet the four outcomes:
//!
//! | at Google | here | why |
//! |---|---|---|
//! | no such secret or version, DESTROYED | dangling | it is gone, and does not come back |
//! | DISABLED | denied | somebody took it out of use: the value that is held ends with the next refresh |
//! | no version named | the latest that is ENABLED | disabling the newest version is how a bad one is taken back |
//! | none of a secret's versions is ENABLED | denied if one is DISABLED, else dangling | as for one version |
//!
//! Google's own `latest` is the newest version, whatever its state. It is asked first, because
//! `roles/secretmanager.secretAccessor` is enough for it. Only where it is not enabled are the versions listed, which
//! takes `secretmanager.versions.list`, too; an account without it is denied there.

mod api;
mod metadata;
mod read;
mod service_account;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use secrecy::SecretString;

use self::api::{Api, Question};
use self::read::{Listed, Read, State};
use self::service_account::ServiceAccount;
use self::tokens::Tokens;
use super::failed::{Failed, checked, fetched};
use super::tries::Tries;
use super::{Checked, ExternalSource, Fetched, OpenError};
use crate::clock::Clock;
use crate::domain::provider::{GsmSettings, GsmTarget, Target, Unavailable};
use crate::egress::{Answer, Exchanger};

pub use metadata::Machine;

/// How many pages of a list are looked at. The newest versions come first.
const PAGES_MAX: u32 = 8;

/// A Secret Manager, as one organization may see it.
pub(super) struct GsmSource {
    api: Api,
    tokens: Arc<Tokens>,
    /// A name within the prefix, to ask for rights on. There need not be such a secret.
    probe: String,
}

impl GsmSource {
    /// As a service account of the tenant, at the address that the tenant named.
    pub(super) fn with_account(
        settings: &GsmSettings,
        exchanger: Exchanger,
        credential: &SecretString,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let account = ServiceAccount::parse(credential, clock.now())?;
        let api = Api::new(exchanger, &settings.address.path_prefix);
        Ok(Self::new(settings, api, Arc::new(Tokens::of_account(account, clock))))
    }

    /// As the machine. The address is the machine's, too: what the settings say is not looked at.
    pub(super) fn with_machine(settings: &GsmSettings, exchanger: Exchanger, machine: &Machine) -> Self {
        let api = Api::new(exchanger, &machine.address().path_prefix);
        Self::new(settings, api, machine.tokens())
    }

    fn new(settings: &GsmSettings, api: Api, tokens: Arc<Tokens>) -> Self {
        let secret = match settings.secret_prefix.as_str() {
            "" => "kiket",
            prefix => prefix,
        };
        Self {
            api,
            tokens,
            probe: format!("projects/{}/secrets/{secret}", settings.project),
        }
    }

    async fn read(&self, target: &GsmTarget, tries: Tries) -> Result<Fetched, Failed> {
        match (self.access(target, target.version(), tries).await?, target.version()) {
            (Read::Fetched(fetched), _) => Ok(fetched),
            (Read::NotEnabled(None), Some(version)) => self.state_of(target, version, tries).await,
            (Read::NotEnabled(Some(state)), Some(_)) => Ok(without_value(state)),
            (Read::NotEnabled(_), None) => self.latest_enabled(target, tries).await,
        }
    }

    /// Reads a version, or the newest one. What came damaged is asked for again.
    async fn access(&self, target: &GsmTarget, version: Option<u64>, tries: Tries) -> Result<Read, Failed> {
        let question = Question::get(read::access_path(target, version));
        let mut tried = 0;
        loop {
            tried += 1;
            let answer = self.ask(&question, tries).await?;
            match read::judge(target, version, &answer) {
                Read::Fetched(Fetched::Unavailable(Unavailable::Corrupted)) if tries.again(tried, None).await => {}
                read => return Ok(read),
            }
        }
    }

    /// Why a version cannot be read, where that was not said.
    async fn state_of(&self, target: &GsmTarget, version: u64, tries: Tries) -> Result<Fetched, Failed> {
        let question = Question::get(read::version_path(target, version));
        let answer = self.ask(&question, tries).await?;
        Ok(match read::state(&answer)? {
            // Between the two questions, or one of the two is behind.
            Some(State::Enabled) => Unavailable::NotCaughtUp.into(),
            Some(state) => without_value(state),
            None => Fetched::Dangling,
        })
    }

    /// Reads the latest version that is enabled, where the newest one is not.
    async fn latest_enabled(&self, target: &GsmTarget, tries: Tries) -> Result<Fetched, Failed> {
        if let Some(version) = self.newest(target, State::Enabled, tries).await? {
            return Ok(match self.access(target, Some(version), tries).await? {
                Read::Fetched(fetched) => fetched,
                Read::NotEnabled(_) => Unavailable::NotCaughtUp.into(),
            });
        }
        Ok(match self.newest(target, State::Disabled, tries).await? {
            Some(_) => Fetched::Denied,
            None => Fetched::Dangling,
        })
    }

    /// The newest version in a state.
    async fn newest(&self, target: &GsmTarget, state: State, tries: Tries) -> Result<Option<u64>, Failed> {
        let mut page = None;
        for _ in 0..PAGES_MAX {
            let question = Question::get(read::list_path(target, state, page.as_deref()));
            let answer = self.ask(&question, tries).await?;
            match read::listed(target, &answer)? {
                Listed::Newest(version) => return Ok(Some(version)),
                Listed::Nothing => return Ok(None),
                Listed::More(token) => page = Some(token),
            }
        }
        Err(Unavailable::TooLarge.into())
    }

    /// Asks with the token that is held, and once more with another one where that is not taken.
    async fn ask(&self, question: &Question, tries: Tries) -> Result<Answer, Failed> {
        let token = self.tokens.current(tries).await?;
        let answer = self.api.ask(question, token.text(), tries).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let token = self.tokens.instead_of(&token, tries).await?;
        let answer = self.api.ask(question, token.text(), tries).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            return Err(Failed::Denied);
        }
        Ok(answer)
    }

    /// Asks which rights there are: that takes none, and says nothing of a secret. Whether they are the right ones is
    /// not judged, because a secret that there is not has none to give.
    async fn look(&self, tries: Tries) -> Result<(), Failed> {
        let token = self.tokens.anew(tries).await?;
        let question = Question::post(
            format!("{}:testIamPermissions", self.probe),
            br#"{"permissions":["secretmanager.versions.access"]}"#,
        );
        let answer = self.api.ask(&question, token.text(), tries).await?;
        match answer.status {
            StatusCode::OK if read::is_rights(&answer) => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failed::Denied),
            _ => Err(Unavailable::WrongShape.into()),
        }
    }
}

/// What a version in a state is that cannot be read.
const fn without_value(state: State) -> Fetched {
    match state {
        State::Destroyed => Fetched::Dangling,
        State::Enabled | State::Disabled => Fetched::Denied,
    }
}

#[async_trait]
impl ExternalSource for GsmSource {
    async fn fetch(&self, target: &Target, within: Duration) -> Fetched {
        let Target::Gsm(target) = target else {
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
