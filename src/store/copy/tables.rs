//! Which tables a copy takes along, in which order their rows are read, and which it leaves behind.

/// A table that is copied.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// What its rows are read by, in order: columns that together are unique and never NULL.
    pub key: &'static [&'static str],
}

const fn table(name: &'static str, key: &'static [&'static str]) -> Table {
    Table { name, key }
}

/// What is copied, whole and as it is. A table that others refer to stands before them. Which columns there are is
/// read from the schema.
pub const COPIED: &[Table] = &[
    table("extensions", &["position"]),
    table("installations", &["position"]),
    table("secrets", &["position"]),
    table("tokens", &["position"]),
    table("policies", &["organization"]),
    table("providers", &["organization", "name"]),
    table("keks", &["id"]),
    table("alerts", &["position"]),
    table("outbox", &["id"]),
    // A client that was not answered any more asks the same again of the new store, and must not be served twice.
    table("requests", &["id"]),
    table("audit", &["position"]),
    table("chain_heads", &["chain"]),
    table("checkpoints", &["chain", "sequence"]),
];

/// What is not copied, and why.
pub const LEFT_BEHIND: &[(&str, &str)] = &[
    (
        "changes",
        "the feed tells instances that run what to drop; none does, and those that start begin at its end. Its positions \
         mean something to one database only",
    ),
    (
        "instances",
        "who is there: nobody is, and whoever starts on the target says so there",
    ),
    (
        "leases",
        "who alone does what just now: nobody does, where nothing runs",
    ),
    (
        "_sqlx_migrations",
        "which migrations were run: they are run on the target, too",
    ),
];
