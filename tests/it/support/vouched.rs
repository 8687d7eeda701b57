//! An installation that is delivered to where an issuer vouches for it, and how a bad token is seen to be refused.

use super::endpoint::Endpoint;
use super::instance::Instance;
use super::issuer::{Draft, Issuer, SigningKey, carrying};
use super::problem::assert_problem;

/// An installation `ins` that is delivered to where the issuer vouches for it.
pub struct Vouched {
    pub key: SigningKey,
    pub issuer: Issuer,
    pub instance: Instance,
    pub endpoint: Endpoint,
}

impl Vouched {
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let key = SigningKey::new("key-1");
        let issuer = Issuer::publishing(&[&key]);
        let (instance, endpoint) = (issuer.instance(settings), Endpoint::start());
        instance.simple(&endpoint.url());
        instance.set("organization", "org", "KEY", "secret-value-0123456789");
        Self {
            key,
            issuer,
            instance,
            endpoint,
        }
    }

    pub fn draft(&self) -> Draft {
        Draft::of(&self.key, &self.instance)
    }

    pub fn good(&self) -> String {
        self.draft().sign(&self.key)
    }

    pub fn status(&self, token: &str) -> u16 {
        self.instance.deliver("ins", &carrying(token)).status
    }

    /// The good token passes, the bad one does not, and the log and the metric alone say why.
    pub fn refuses(&self, verdict: &str, what: &str, token: &str) {
        assert_eq!(self.status(&self.good()), 200, "{what}: the control");
        let before = (
            self.endpoint.received().len(),
            self.counted(verdict),
            self.logged(verdict),
        );
        let refused = self.instance.deliver("ins", &carrying(token));
        assert_problem(&refused, 403, "runtime-token-invalid", false, what);
        let said = String::from_utf8_lossy(&refused.body).into_owned();
        assert!(said.contains("does not verify, or does not fit"), "{said}");
        let after = (
            self.endpoint.received().len(),
            self.counted(verdict),
            self.logged(verdict),
        );
        assert_eq!(
            after,
            (before.0, before.1 + 1, before.2 + 1),
            "{what}: {}",
            self.instance.log()
        );
    }

    /// Checks that ended so.
    pub fn counted(&self, verdict: &str) -> usize {
        let name = format!("kiket_runtime_token_checks_total{{verdict=\"{verdict}\"}} ");
        let metrics = self.instance.metrics();
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        line.expect("every verdict is counted from the start").parse().unwrap()
    }

    pub fn logged(&self, verdict: &str) -> usize {
        let lines = self.instance.lines();
        lines.iter().filter(|line| line["token_check"] == verdict).count()
    }
}
