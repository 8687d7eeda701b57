//! How the product is laid out: two planes over use cases, over ports with private adapters, over a pure core.
//!
//! The sidecar stands between Kiket's webhook dispatcher and the endpoints of extensions. It resolves the secrets of
//! an installation through five scopes, splices them into the invocation just before it is forwarded, signs the result
//! and sends it over TLS or mutual TLS. It is the store of those secrets, too.
//!
//! # Rooms and tiers
//!
//! A module uses modules of lower tiers only, and two of one tier never each other (`tests/architecture.rs`).
//!
//! | tier | rooms | what they hold |
//! |---|---|---|
//! | 0 | [`domain`] | rules and records: scopes, manifests, resolution, the payload's scan and splice |
//! | 1 | [`clock`] [`config`] [`crypto`] [`guard`] [`shutdown`] [`telemetry`] | what everything stands on |
//! | 2 | [`egress`] [`server`] [`store`] | the guarded way out, the listeners, the rows |
//! | 3 | [`audit`] [`delivery`] [`external`] [`issuer`] [`keys`] [`traces`] | what keeps the log whole; one attempt after another over pooled connections; secrets in other backends; who vouches for invocations; which keys seal; spans on their way to a collector |
//! | 4 | [`registry`] [`secrets`] | use cases over extensions, installations and their secrets |
//! | 5 | [`bundles`] | what a warm delivery needs, built once per change |
//! | 6 | [`admin`] [`proxy`] [`notify`] | control plane, data plane, and who is told of what happened |
//! | 7 | [`app`] | the composition root: the one place where a port meets its adapter |
//! | 8 | [`demo`] | the story that `kiket demo` tells |
//! | 9 | [`cli`] | the commands |
//! | – | [`manual`] | pages for operators; no code |
//!
//! # The path of a delivery
//!
//! Warm, it touches no store, holds no lock over an await and copies no body:
//!
//! | step | room |
//! |---|---|
//! | accept, bound, read | [`server`] |
//! | authenticate the dispatcher | `proxy::auth` |
//! | one strict pass over the JSON: installation, stated ids, splice point | [`domain::payload`] |
//! | look the installation up | [`bundles`] |
//! | (cold, on the control runtime: build) | [`registry`] and [`secrets::resolve`] → [`store`], [`crypto`]; [`secrets::sources`] → [`external`] |
//! | (where asked for) hold the runtime token against its issuer's keys and the record | [`issuer`] |
//! | take a place within the organization's and the endpoint's share; pass the endpoint's circuit | `proxy::room` → [`delivery::Lane`] |
//! | splice: the body, the fragment, the rest of the body | [`domain::payload`] |
//! | sign, fresh at every attempt | [`crypto::signature`] |
//! | send over a connection of this identity | [`delivery`] → [`egress`] |
//! | pass the answer on, write the canonical line | `proxy::respond`, `proxy::record` |
//! | (where traced) leave the line to the exporter | [`traces`] |
//!
//! # Invariants
//!
//! Each has a test.
//!
//! 1. The domain cannot fail on IO.
//! 2. The store never sees plaintext.
//! 3. No type of the control plane can carry a value outward.
//! 4. A handshake or signing secret cannot enter a payload: they are other types.
//! 5. No key-encryption key, no start.
//! 6. Only [`Absent`](domain::resolution::Lookup::Absent) falls through a scope.
//! 7. The bytes signed are the bytes sent.
//! 8. No connection is shared across identities.
//! 9. A warm delivery makes no write-class call but to sockets and the log.
//! 10. A destination comes from the registry, never from a request.

pub mod admin;
pub mod app;
pub mod audit;
pub mod bundles;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod delivery;
pub mod demo;
pub mod domain;
pub mod egress;
pub mod external;
pub mod guard;
pub mod issuer;
pub mod keys;
pub mod manual;
pub mod notify;
pub mod proxy;
pub mod registry;
pub mod secrets;
pub mod server;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod traces;
