//! Which words a label or an outcome can be: closed sets, each with its position for handles held in arrays.

use crate::domain::alert::AlertKind;
use crate::domain::problem::Problem;
use crate::domain::provider::FetchOutcome;
use crate::domain::runtime_token::TokenVerdict;

/// A closed set of label values.
pub trait Label: Copy + 'static {
    /// Every value, in order.
    const ALL: &'static [Self];
    /// The word.
    fn word(self) -> &'static str;
    /// The position in [`Self::ALL`].
    fn position(self) -> usize;
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// The word in the log and on the metric.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),*];
            fn word(self) -> &'static str {
                self.name()
            }
            fn position(self) -> usize {
                self as usize
            }
        }
    };
}

labels!(
    /// How a delivery ended.
    Outcome {
        /// The endpoint's whole answer was passed on, whatever its status.
        Delivered = "delivered",
        /// Answered with a problem, and nothing was sent to the endpoint.
        Refused = "refused",
        /// Answered with a problem after an attempt to reach the endpoint.
        Failed = "failed",
        /// The endpoint's answer broke off after its head had been passed on.
        Interrupted = "interrupted",
        /// The dispatcher hung up before its answer was complete.
        DispatcherGone = "dispatcher-gone",
    }
);
labels!(
    /// How a bundle was come by.
    BundleLookup {
        /// In memory.
        Hit = "hit",
        /// Built, or waited for while it was built.
        Miss = "miss",
        /// Could not be built.
        Failed = "failed",
    }
);
labels!(
    /// Whose connections are counted.
    Listener {
        /// The data plane.
        Proxy = "proxy",
        /// The control plane.
        Admin = "admin",
        /// Metrics and health.
        Metrics = "metrics",
    }
);
labels!(
    /// What kind of TLS handshake an endpoint agreed to.
    Handshake {
        /// With certificates.
        Full = "full",
        /// From a ticket.
        Resumed = "resumed",
    }
);

labels!(
    /// What kind of notice was tried.
    NoticeKind {
        /// To an installation's endpoint, of a rotation.
        RotationWebhook = "rotation-webhook",
        /// To an organization's webhook, of an alert.
        AlertWebhook = "alert-webhook",
        /// To a mailbox, of an alert.
        AlertMail = "alert-mail",
    }
);
labels!(
    /// How an attempt to deliver a notice ended.
    NoticeOutcome {
        /// It was taken.
        Delivered = "delivered",
        /// It was not, and will be tried again.
        Failed = "failed",
        /// It was not, and will not be tried again: too often, or too old.
        GivenUp = "given-up",
        /// Nobody wants it any more: the target changed, or is gone.
        Dropped = "dropped",
    }
);

labels!(
    /// What of keeping the audit log whole did not succeed.
    AuditFailure {
        /// What was counted could not be written; it is kept and tried again.
        Counts = "counts",
        /// Chains could not be read or signed; it is tried again.
        Checkpoints = "checkpoints",
        /// What retention ends could not be removed; it is tried again.
        Retention = "retention",
        /// A chain is not as it was written, and its head was not signed.
        Altered = "altered",
    }
);
labels!(
    /// Which bound a delivery was shed at.
    ShedReason {
        /// Deliveries under way, of all.
        InFlight = "in-flight",
        /// Bytes held, of all.
        BufferedBytes = "buffered-bytes",
        /// The organization's share.
        Organization = "organization",
        /// The destination's share.
        Destination = "destination",
        /// The organization's share of the destination's.
        OrganizationAtDestination = "organization-at-destination",
        /// Looks for tokens that are not known yet.
        TokenLookups = "token-lookups",
    }
);
labels!(
    /// What the circuit of an endpoint became.
    CircuitState {
        /// Everything passes.
        Closed = "closed",
        /// Nothing passes.
        Open = "open",
        /// One delivery looks whether the endpoint is back.
        HalfOpen = "half-open",
    }
);

labels!(
    /// What kind of backend references are fetched from.
    SourceBackend {
        /// HashiCorp Vault.
        Vault = "vault",
        /// Google Secret Manager.
        Gsm = "gsm",
    }
);

labels!(
    /// How a fetch of an issuer's keys ended.
    KeyFetch {
        /// With a key set.
        Fetched = "fetched",
        /// The issuer's address must not be reached.
        Refused = "refused",
        /// No connection, or it broke.
        Unreachable = "unreachable",
        /// No TLS session.
        TlsFailed = "tls-failed",
        /// No answer in time.
        Timeout = "timeout",
        /// With a redirect, which is never followed.
        Redirected = "redirected",
        /// What came is not HTTP, or coded.
        Protocol = "protocol",
        /// More came than accepted.
        TooLarge = "too-large",
        /// With another status than 200.
        Status = "status",
        /// What came is no key set.
        NoKeySet = "no-key-set",
    }
);

labels!(
    /// What became of a span.
    SpanOutcome {
        /// The collector took it.
        Exported = "exported",
        /// There was no room for it to wait in.
        QueueFull = "queue-full",
        /// The collector answered, and did not take it.
        Rejected = "rejected",
        /// The collector did not answer, or asked to come later, until it was not tried any more.
        GivenUp = "given-up",
        /// The process ended before it could be exported.
        Ended = "ended",
    }
);

impl Label for FetchOutcome {
    const ALL: &'static [Self] = &Self::ALL;
    fn word(self) -> &'static str {
        self.name()
    }
    fn position(self) -> usize {
        self.position()
    }
}

impl Label for AlertKind {
    const ALL: &'static [Self] = Self::ALL;
    fn word(self) -> &'static str {
        self.name()
    }
    fn position(self) -> usize {
        self as usize
    }
}

impl Label for TokenVerdict {
    const ALL: &'static [Self] = Self::ALL;
    fn word(self) -> &'static str {
        self.name()
    }
    fn position(self) -> usize {
        self as usize
    }
}

impl Label for Problem {
    const ALL: &'static [Self] = Self::ALL;
    fn word(self) -> &'static str {
        self.name()
    }
    fn position(self) -> usize {
        self as usize
    }
}
