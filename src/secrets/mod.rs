//! What is done with secrets: `manage` writes and lists them, `resolve` opens them for deliveries.

pub mod manage;
pub mod resolve;
