//! What every test stands on: a running instance, an endpoint, and a client that sends exactly what it is told.

pub mod allocations;
pub mod alone;
pub mod api;
pub mod canary;
pub mod captured;
pub mod command;
pub mod database;
pub mod endpoint;
pub mod external;
pub mod gated_store;
pub mod http;
pub mod instance;
pub mod mailbox;
pub mod operator;
pub mod pki;
pub mod postgres;
pub mod problem;
pub mod process;
pub mod python;
pub mod reading;
pub mod tenant;
pub mod terminal;
pub mod tls_endpoint;
pub mod trace;
pub mod vault;
