//! The one integration binary: the product from outside, over real sockets, TLS and SQLite.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod bundles;
mod certificate_rotation;
mod demo;
mod endpoint_faults;
mod endpoint_tls;
mod first_delivery;
mod identities;
mod mutual_tls;
mod precedence;
mod refusals;
mod store_contract;
mod support;
