//! Which answers the sidecar makes itself: the closed set of problems, their statuses and their fixed texts.
//!
//! A problem carries no byte of input, value or upstream text (contract, section 5).

macro_rules! problems {
    ($($variant:ident = $status:literal $retry:ident $name:literal, $proxy_status:literal, $title:literal, $detail:literal;)*) => {
        /// What kept a delivery from being made, or its answer from being passed on. Variants stand in the order of
        /// the contract's table; the name is the problem's `type`, the log field and the metric label alike.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Problem { $(#[doc = $detail] $variant),* }

        impl Problem {
            /// Every problem. A problem's discriminant is its position here.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in `urn:kiket:problem:<name>`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The whole `type` of the problem document.
            #[must_use]
            pub const fn urn(self) -> &'static str {
                match self { $(Self::$variant => concat!("urn:kiket:problem:", $name)),* }
            }

            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            /// Whether the same request may succeed later.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$variant => problems!(@ $retry)),* }
            }

            /// The error type of RFC 9209, section 2.3, for `Proxy-Status: kiket; error=…`.
            #[must_use]
            pub const fn proxy_status(self) -> &'static str {
                match self { $(Self::$variant => $proxy_status),* }
            }

            /// The title of the problem document.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }

            /// The detail of the problem document: one fixed sentence.
            #[must_use]
            pub const fn detail(self) -> &'static str {
                match self { $(Self::$variant => $detail),* }
            }
        }
    };
    (@ retry) => { true };
    (@ final) => { false };
}

problems! {
    MalformedInvocation = 400 final "malformed-invocation", "http_request_error", "Malformed invocation",
        "The body must be one JSON object in UTF-8 that names its installation, with ids of the documented form.";
    ReservedMember = 400 final "reserved-member", "http_request_denied", "Reserved member",
        "The body has a top-level member that a receiver could take for one the sidecar inserts.";
    InvalidPath = 400 final "invalid-path", "http_request_error", "Invalid path",
        "The path must not hold empty or dot segments, backslashes or encoded slashes.";
    DispatcherUnauthenticated = 401 final "dispatcher-unauthenticated", "http_request_denied", "Dispatcher unauthenticated",
        "The request needs the dispatcher token as a bearer token.";
    RuntimeTokenInvalid = 403 final "runtime-token-invalid", "http_request_denied", "Runtime token invalid",
        "The invocation's runtime token does not verify, or does not fit the installation.";
    MethodNotAllowed = 405 final "method-not-allowed", "http_request_error", "Method not allowed",
        "Deliveries are made with POST.";
    InstallationUnknown = 404 final "installation-unknown", "destination_not_found", "Installation unknown",
        "No installation goes by this id.";
    ScopeMismatch = 409 final "scope-mismatch", "http_request_denied", "Scope mismatch",
        "The ids that the request states disagree with each other or with the registered installation.";
    InstallationNotEnabled = 409 final "installation-not-enabled", "http_request_denied", "Installation not enabled",
        "The installation is pending or disabled; an organization admin can enable it.";
    DestinationUnconfirmed = 409 final "destination-unconfirmed", "http_request_denied", "Destination unconfirmed",
        "The installation has no destination that an organization admin confirmed.";
    PayloadTooLarge = 413 final "payload-too-large", "http_request_error", "Payload too large",
        "The body is larger than the configured limit.";
    UnsupportedMediaType = 415 final "unsupported-media-type", "http_request_error", "Unsupported media type",
        "The body must be declared as JSON and carry no content encoding.";
    RequiredSecretsMissing = 424 final "required-secrets-missing", "proxy_configuration_error", "Required secrets missing",
        "Keys that the manifest requires have no value at any scope of the installation.";
    SigningKeyMissing = 424 final "signing-key-missing", "proxy_configuration_error", "Signing key missing",
        "The manifest names a signing key that has no value; nothing is sent unsigned.";
    MtlsIdentityMissing = 424 final "mtls-identity-missing", "proxy_configuration_error", "Client identity missing",
        "The manifest declares mutual TLS and its certificate, private key or CA has no value.";
    Internal = 500 retry "internal", "proxy_internal_error", "Internal error",
        "The sidecar failed; its log says where.";
    EndpointUnreachable = 502 retry "endpoint-unreachable", "destination_unavailable", "Endpoint unreachable",
        "No connection to the extension's endpoint could be made.";
    EndpointTlsFailed = 502 retry "endpoint-tls-failed", "tls_protocol_error", "TLS with the endpoint failed",
        "The TLS handshake with the extension's endpoint failed.";
    EndpointProtocolError = 502 final "endpoint-protocol-error", "http_protocol_error", "Endpoint protocol error",
        "The extension's endpoint did not answer in acceptable HTTP; it may have processed the request.";
    EndpointRedirected = 502 final "endpoint-redirected", "http_protocol_error", "Endpoint redirected",
        "The extension's endpoint answered with a redirect; redirects are never followed.";
    DestinationRefused = 502 final "destination-refused", "destination_ip_prohibited", "Destination refused",
        "The destination's address is one that deliveries must not reach.";
    MtlsIdentityInvalid = 502 final "mtls-identity-invalid", "proxy_configuration_error", "Client identity invalid",
        "The certificate and private key are not PEM, do not match each other, or are out of their validity.";
    SecretEchoed = 502 final "secret-echoed", "http_request_denied", "Secret echoed",
        "The extension's answer held an injected value and was withheld.";
    ResponseTooLarge = 502 final "response-too-large", "http_response_body_size", "Response too large",
        "The extension's answer is larger than the configured limit.";
    SecretSourceUnavailable = 503 retry "secret-source-unavailable", "proxy_internal_error", "Secret source unavailable",
        "A value could not be read from its source; it is not known to be missing.";
    StoreUnavailable = 503 retry "store-unavailable", "proxy_internal_error", "Store unavailable",
        "The Secret Store does not answer.";
    Overloaded = 503 retry "overloaded", "connection_limit_reached", "Overloaded",
        "A limit on concurrent work is reached.";
    EndpointCircuitOpen = 503 retry "endpoint-circuit-open", "destination_unavailable", "Endpoint circuit open",
        "The extension's endpoint failed too often lately; it is given time to recover.";
    Draining = 503 retry "draining", "proxy_internal_response", "Draining",
        "The sidecar is shutting down.";
    EndpointTimeout = 504 retry "endpoint-timeout", "http_response_timeout", "Endpoint timeout",
        "The extension's endpoint did not answer within the manifest's timeout; it may have processed the request.";
}

impl Problem {
    /// What `Retry-After` says, in seconds: every 503 has one, nothing else.
    #[must_use]
    pub const fn retry_after_secs(self) -> Option<u32> {
        match self {
            Self::EndpointCircuitOpen => Some(10),
            Self::SecretSourceUnavailable | Self::StoreUnavailable => Some(2),
            Self::Overloaded | Self::Draining => Some(1),
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_a_discriminant_is_the_position() {
        for (position, problem) in Problem::ALL.iter().enumerate() {
            assert_eq!(*problem as usize, position);
            assert!(
                Problem::ALL[..position]
                    .iter()
                    .all(|other| other.name() != problem.name())
            );
        }
        assert_eq!(Problem::ALL.len(), 30);
    }

    #[test]
    fn exactly_the_503s_say_when_to_retry_and_are_retryable() {
        for problem in Problem::ALL {
            assert_eq!(
                problem.retry_after_secs().is_some(),
                problem.status() == 503,
                "{}",
                problem.name()
            );
            if problem.status() >= 503 || problem.status() == 500 {
                assert!(problem.retryable(), "{}", problem.name());
            }
            if problem.status() < 500 {
                assert!(!problem.retryable(), "{}", problem.name());
            }
        }
    }

    #[test]
    fn of_the_502s_only_failed_connections_are_retryable() {
        let retryable: Vec<_> = Problem::ALL
            .iter()
            .filter(|p| p.status() == 502 && p.retryable())
            .map(|p| p.name())
            .collect();
        assert_eq!(retryable, ["endpoint-unreachable", "endpoint-tls-failed"]);
    }
}
