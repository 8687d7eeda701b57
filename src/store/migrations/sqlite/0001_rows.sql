-- Texts are compared byte by byte; moments are milliseconds since the epoch; `owner` and `chain` are '' for the partner
-- and the platform, because NULLs would not be unique.

CREATE TABLE extensions (
    id         TEXT    NOT NULL PRIMARY KEY,
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
    UNIQUE (owner, scope, scope_id, key)
) STRICT;

CREATE TABLE tokens (
    id           TEXT    NOT NULL PRIMARY KEY,
    hash         BLOB    NOT NULL UNIQUE,
    name         TEXT    NOT NULL,
    role         TEXT    NOT NULL,
    organization TEXT,
    created_by   TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    mac          BLOB    NOT NULL
) STRICT;

CREATE TABLE audit (
    chain      TEXT    NOT NULL,
    sequence   INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    actor_id   TEXT    NOT NULL,
    actor_name TEXT    NOT NULL,
    action     TEXT    NOT NULL,
    source     TEXT    NOT NULL,
    outcome    TEXT    NOT NULL,
    scope      TEXT,
    subject    TEXT,
    key        TEXT,
    version    INTEGER,
    external   INTEGER NOT NULL,
    mac        BLOB    NOT NULL,
    PRIMARY KEY (chain, sequence)
) STRICT, WITHOUT ROWID;

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
