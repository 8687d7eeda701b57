-- Texts are compared byte by byte; moments are milliseconds since the epoch; `owner` and `chain` are '' for the partner
-- and the platform, because NULLs would not be unique.

CREATE TABLE extensions (
    position   INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id         TEXT    NOT NULL UNIQUE,
    document   TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    mac        BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE installations (
    position             INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id                   TEXT    NOT NULL UNIQUE,
    extension            TEXT    NOT NULL REFERENCES extensions (id),
    organization         TEXT    NOT NULL,
    project              TEXT    NOT NULL,
    product_installation TEXT,
    state                TEXT    NOT NULL,
    callback_url         TEXT,
    version              INTEGER NOT NULL,
    created_at           INTEGER NOT NULL,
    updated_at           INTEGER NOT NULL,
    mac                  BLOB    NOT NULL
) STRICT;

CREATE INDEX installations_by_organization ON installations (organization, position);

CREATE TABLE secrets (
    position                INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    owner                   TEXT    NOT NULL,
    scope                   TEXT    NOT NULL,
    scope_id                TEXT    NOT NULL,
    key                     TEXT    NOT NULL,
    kind                    TEXT    NOT NULL,
    version                 INTEGER NOT NULL,
    rotation_count          INTEGER NOT NULL,
    last_rotated_at         INTEGER,
    created_at              INTEGER NOT NULL,
    updated_at              INTEGER NOT NULL,
    expires_at              INTEGER,
    sealed                  BLOB    NOT NULL,
    predecessor_version     INTEGER,
    predecessor_sealed      BLOB,
    predecessor_valid_until INTEGER,
    written_by              TEXT    NOT NULL,
    contact                 TEXT,
    last_used_at            INTEGER,
    UNIQUE (owner, scope, scope_id, key)
) STRICT;

CREATE TABLE tokens (
    position     INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id           TEXT    NOT NULL UNIQUE,
    hash         BLOB    NOT NULL UNIQUE,
    name         TEXT    NOT NULL,
    role         TEXT    NOT NULL,
    organization TEXT,
    created_by   TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER,
    mac          BLOB    NOT NULL
) STRICT;

CREATE TABLE policies (
    organization            TEXT    NOT NULL PRIMARY KEY,
    rotation_max_age_days   INTEGER NOT NULL,
    read_threshold          INTEGER NOT NULL,
    read_window_secs        INTEGER NOT NULL,
    delivery_read_threshold INTEGER,
    unused_days             INTEGER,
    retention_days          INTEGER,
    webhook_url             TEXT,
    webhook_signing_key     TEXT,
    emails                  TEXT    NOT NULL,
    version                 INTEGER NOT NULL,
    updated_at              INTEGER NOT NULL,
    mac                     BLOB    NOT NULL
) STRICT;

CREATE TABLE alerts (
    position        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id              TEXT    NOT NULL UNIQUE,
    organization    TEXT    NOT NULL,
    kind            TEXT    NOT NULL,
    scope           TEXT,
    subject         TEXT,
    key             TEXT,
    detail          TEXT    NOT NULL,
    dedup           TEXT    NOT NULL,
    raised_at       INTEGER NOT NULL,
    acknowledged_at INTEGER,
    acknowledged_by TEXT
) STRICT;

CREATE INDEX alerts_that_say_the_same ON alerts (organization, dedup, raised_at);

CREATE TABLE outbox (
    id           TEXT    NOT NULL PRIMARY KEY,
    kind         TEXT    NOT NULL,
    organization TEXT    NOT NULL,
    payload      TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    due_at       INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    leased_until INTEGER NOT NULL
) STRICT;

CREATE INDEX outbox_by_due ON outbox (due_at);

CREATE TABLE requests (
    id         BLOB    NOT NULL PRIMARY KEY,
    asked      BLOB    NOT NULL,
    status     INTEGER,
    body       BLOB,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE TABLE audit (
    position    INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    chain       TEXT    NOT NULL,
    sequence    INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    actor_id    TEXT    NOT NULL,
    actor_name  TEXT    NOT NULL,
    action      TEXT    NOT NULL,
    source      TEXT    NOT NULL,
    outcome     TEXT    NOT NULL,
    scope       TEXT,
    subject     TEXT,
    key         TEXT,
    version     INTEGER,
    external    INTEGER NOT NULL,
    destination TEXT,
    count       INTEGER,
    hash        BLOB    NOT NULL,
    mac         BLOB    NOT NULL,
    UNIQUE (chain, sequence)
) STRICT;

-- How often a key was used lately.
CREATE INDEX audit_by_key ON audit (chain, key, at) WHERE key IS NOT NULL;

-- The last link of each chain, also of one whose entries were all removed.
CREATE TABLE chain_heads (
    chain    TEXT    NOT NULL PRIMARY KEY,
    sequence INTEGER NOT NULL,
    hash     BLOB    NOT NULL
) STRICT;

CREATE TABLE checkpoints (
    chain     TEXT    NOT NULL,
    sequence  INTEGER NOT NULL,
    hash      BLOB    NOT NULL,
    at        INTEGER NOT NULL,
    signature BLOB    NOT NULL,
    PRIMARY KEY (chain, sequence)
) STRICT;

-- What commits touched, in commit order.
CREATE TABLE changes (
    position INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    kind     TEXT    NOT NULL,
    id       TEXT,
    owner    TEXT,
    scope    TEXT,
    scope_id TEXT,
    key      TEXT
) STRICT;
