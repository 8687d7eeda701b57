//! How everything that tells somebody is put together and kept running.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::StartError;
use crate::bundles::Bundles;
use crate::config::{self, Config};
use crate::crypto::signature::SignaturePrefix;
use crate::delivery::DeliveryCounts;
use crate::delivery::identity::TlsClients;
use crate::egress::Egress;
use crate::notify::mail::{MailSettings, Mailer};
use crate::notify::outbox::Outbox;
use crate::notify::post::Post;
use crate::notify::secret_audit::SecretAudit;
use crate::notify::{Sources, watch};
use crate::secrets::resolve::SecretResolver;
use crate::store::Sightings;
use crate::telemetry::Metrics;

/// What notices share with deliveries.
pub(super) struct Shared {
    pub(super) sources: Sources,
    pub(super) secrets: SecretResolver,
    pub(super) bundles: Bundles,
    pub(super) tls: TlsClients,
    pub(super) egress: Arc<Egress>,
    pub(super) counts: Arc<DeliveryCounts>,
    pub(super) prefix: SignaturePrefix,
    pub(super) metrics: Arc<Metrics>,
}

/// Everything that tells somebody, built and not yet running.
pub(super) struct Notices {
    sources: Sources,
    /// What tells somebody outside; `None` where the role leaves that to others.
    teller: Option<Teller>,
}

struct Teller {
    outbox: Arc<Outbox>,
    audit: SecretAudit,
    every: std::time::Duration,
}

/// What every role does: it looks at its own reads. Whom its alerts go to is for others to tell.
pub(super) fn watch_only(sources: Sources) -> Notices {
    Notices { sources, teller: None }
}

/// Puts it all together; nothing is connected to yet.
pub(super) fn build(config: &Config, shared: Shared) -> Result<Notices, StartError> {
    let Shared {
        sources,
        secrets,
        bundles,
        tls,
        egress,
        counts,
        prefix,
        metrics,
    } = shared;
    let outbox = Outbox {
        bundles,
        secrets: secrets.clone(),
        plain: tls.plain(None)?,
        prefix,
        allow_http: config.dangerous_allow_http,
        post: Post::start(egress, counts).map_err(|error| StartError::Runtime(error.kind()))?,
        mailer: mailer(config)?,
        metrics,
        sources: sources.clone(),
    };
    let audit = SecretAudit::new(sources.clone(), secrets);
    Ok(Notices {
        teller: Some(Teller {
            outbox: Arc::new(outbox),
            audit,
            every: config.secret_audit_every,
        }),
        sources,
    })
}

fn mailer(config: &Config) -> Result<Option<Mailer>, StartError> {
    let (Some(url), Some(from)) = (&config.smtp_url, &config.smtp_from) else {
        return Ok(None);
    };
    let credentials = match &config.smtp_credentials_file {
        None => None,
        Some(path) => {
            let refused = |error| StartError::SecretFile("smtp_credentials_file", error);
            Some(config::secret_file(path).map_err(refused)?)
        }
    };
    let authorities = match &config.egress_ca_file {
        None => None,
        Some(path) => Some(std::fs::read(path).map_err(|_| crate::egress::RootsError::File)?),
    };
    let settings = MailSettings {
        url,
        from,
        credentials: credentials.as_ref(),
        authorities: authorities.as_deref(),
    };
    Ok(Some(Mailer::new(&settings)?))
}

impl Notices {
    /// Runs it all until `stop`; the task that is returned ends once notices under way have ended.
    pub(super) fn run(self, sightings: &Arc<Sightings>, stop: &CancellationToken, control: &Handle) -> JoinHandle<()> {
        control.spawn(watch::run(self.sources, Arc::clone(sightings), stop.clone()));
        let Some(teller) = self.teller else {
            return control.spawn(async {});
        };
        if teller.outbox.mailer.is_none() {
            tracing::info!("smtp_url is not set: alerts are not mailed");
        }
        control.spawn(teller.audit.run_every(teller.every, stop.clone()));
        control.spawn(teller.outbox.run(Arc::clone(sightings), stop.clone()))
    }
}
