//! What is done with secrets: `manage` writes and lists them, `resolve` opens them for deliveries, `explain` says where
//! a value comes from, `report` how old they are, `providers` keeps where references are looked up.

pub mod explain;
pub mod linked;
pub mod lookup;
pub mod manage;
pub mod providers;
pub mod refresh;
pub mod report;
pub mod resolve;
pub mod sources;
