//! The one integration binary: the product from outside, over real sockets, TLS and SQLite.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod activation;
mod admin_tls;
mod alerts;
mod answers;
mod audit_log;
mod authorization;
mod bundles;
mod certificate_rotation;
mod cli_audit;
mod cli_completions;
mod cli_consents;
mod cli_deliver;
mod cli_marketplace;
mod cli_monitoring;
mod cli_providers;
mod cli_refusals;
mod cli_resolution;
mod cli_secrets;
mod cli_terminal;
mod cli_tokens;
mod cli_transport;
mod cli_values;
mod commands;
mod consents;
mod control_plane;
mod counts;
mod crawl;
mod demo;
mod doctor;
mod draining;
mod echoes;
mod endpoint_faults;
mod endpoint_tls;
mod environment;
mod external_references;
mod faults;
mod first_delivery;
mod fleet;
mod forgotten;
mod fuzzed;
mod gsm_fake;
mod gsm_login;
mod gsm_source;
mod guards;
mod http2;
mod identities;
mod internal_addresses;
mod key_rotation;
mod key_rotation_resumed;
mod killed;
mod killed_at_writes;
mod leak_assertion;
mod lifecycle;
mod long_run;
mod machine_identity;
mod manual_pages;
mod monitoring;
mod mutual_tls;
mod no_leak;
mod openbao;
mod overload;
mod payload_identity;
mod policies;
mod precedence;
mod providers;
mod refreshes;
mod refusals;
mod retries;
mod rotation_webhooks;
mod runtime_token_keys;
mod runtime_token_traces;
mod runtime_tokens;
mod secret_audit;
mod signatures;
mod store_contract;
mod store_copy;
mod store_outage;
mod support;
mod traces;
mod transit_keys;
mod vault_fake;
mod vault_login;
mod vault_reach;
mod vault_source;
mod write_free;
