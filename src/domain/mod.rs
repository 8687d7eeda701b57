//! What the product knows without asking anyone: pure rules and records, no IO, no clock, no logging.

pub mod alert;
pub mod audit;
pub mod breaker;
pub mod change;
pub mod checklist;
pub mod consent;
pub mod destination;
pub mod echo;
pub mod id;
pub mod installation;
pub mod key;
pub mod leak;
pub mod manifest;
pub mod payload;
pub mod policy;
pub mod problem;
pub mod provider;
pub mod reference;
pub mod resolution;
pub mod runtime_token;
pub mod scope;
pub mod secret;
pub mod share;
pub mod time;
pub mod trace_context;
mod vocabulary;
