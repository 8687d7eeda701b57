-- Texts are compared byte by byte; moments are milliseconds since the epoch; `owner` and `chain` are '' for the partner
-- and the platform, because NULLs would not be unique.

CREATE TABLE extensions (
    position   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id         TEXT COLLATE "C" NOT NULL UNIQUE,
    document   TEXT COLLATE "C" NOT NULL,
    version    BIGINT           NOT NULL,
    mac        BYTEA            NOT NULL,
    created_at BIGINT           NOT NULL,
    updated_at BIGINT           NOT NULL
);

CREATE TABLE installations (
    position             BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id                   TEXT COLLATE "C" NOT NULL UNIQUE,
    extension            TEXT COLLATE "C" NOT NULL REFERENCES extensions (id),
    organization         TEXT COLLATE "C" NOT NULL,
    project              TEXT COLLATE "C" NOT NULL,
    product_installation TEXT COLLATE "C",
    state                TEXT COLLATE "C" NOT NULL,
    callback_url         TEXT COLLATE "C",
    version              BIGINT           NOT NULL,
    created_at           BIGINT           NOT NULL,
    updated_at           BIGINT           NOT NULL,
    mac                  BYTEA            NOT NULL
);

CREATE INDEX installations_by_organization ON installations (organization, position);

CREATE TABLE secrets (
    position                BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner                   TEXT COLLATE "C" NOT NULL,
    scope                   TEXT COLLATE "C" NOT NULL,
    scope_id                TEXT COLLATE "C" NOT NULL,
    key                     TEXT COLLATE "C" NOT NULL,
    kind                    TEXT COLLATE "C" NOT NULL,
    version                 BIGINT           NOT NULL,
    rotation_count          BIGINT           NOT NULL,
    last_rotated_at         BIGINT,
    created_at              BIGINT           NOT NULL,
    updated_at              BIGINT           NOT NULL,
    expires_at              BIGINT,
    sealed                  BYTEA            NOT NULL,
    predecessor_version     BIGINT,
    predecessor_sealed      BYTEA,
    predecessor_valid_until BIGINT,
    written_by              TEXT COLLATE "C" NOT NULL,
    contact                 TEXT COLLATE "C",
    last_used_at            BIGINT,
    UNIQUE (owner, scope, scope_id, key)
);

CREATE TABLE tokens (
    position     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id           TEXT COLLATE "C" NOT NULL UNIQUE,
    hash         BYTEA            NOT NULL UNIQUE,
    name         TEXT COLLATE "C" NOT NULL,
    role         TEXT COLLATE "C" NOT NULL,
    organization TEXT COLLATE "C",
    created_by   TEXT COLLATE "C" NOT NULL,
    created_at   BIGINT           NOT NULL,
    expires_at   BIGINT,
    last_used_at BIGINT,
    mac          BYTEA            NOT NULL
);

CREATE TABLE policies (
    organization            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    rotation_max_age_days   BIGINT           NOT NULL,
    read_threshold          BIGINT           NOT NULL,
    read_window_secs        BIGINT           NOT NULL,
    delivery_read_threshold BIGINT,
    unused_days             BIGINT,
    retention_days          BIGINT,
    webhook_url             TEXT COLLATE "C",
    webhook_signing_key     TEXT COLLATE "C",
    emails                  TEXT COLLATE "C" NOT NULL,
    version                 BIGINT           NOT NULL,
    updated_at              BIGINT           NOT NULL,
    mac                     BYTEA            NOT NULL
);

CREATE TABLE alerts (
    position        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id              TEXT COLLATE "C" NOT NULL UNIQUE,
    organization    TEXT COLLATE "C" NOT NULL,
    kind            TEXT COLLATE "C" NOT NULL,
    scope           TEXT COLLATE "C",
    subject         TEXT COLLATE "C",
    key             TEXT COLLATE "C",
    detail          TEXT COLLATE "C" NOT NULL,
    dedup           TEXT COLLATE "C" NOT NULL,
    raised_at       BIGINT           NOT NULL,
    acknowledged_at BIGINT,
    acknowledged_by TEXT COLLATE "C"
);

CREATE INDEX alerts_that_say_the_same ON alerts (organization, dedup, raised_at);

CREATE TABLE outbox (
    id           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kind         TEXT COLLATE "C" NOT NULL,
    organization TEXT COLLATE "C" NOT NULL,
    payload      TEXT COLLATE "C" NOT NULL,
    created_at   BIGINT           NOT NULL,
    due_at       BIGINT           NOT NULL,
    attempts     BIGINT           NOT NULL,
    leased_until BIGINT           NOT NULL
);

CREATE INDEX outbox_by_due ON outbox (due_at);

CREATE TABLE requests (
    id         BYTEA  NOT NULL PRIMARY KEY,
    asked      BYTEA  NOT NULL,
    status     BIGINT,
    body       BYTEA,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE audit (
    position    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chain       TEXT COLLATE "C" NOT NULL,
    sequence    BIGINT           NOT NULL,
    at          BIGINT           NOT NULL,
    actor_id    TEXT COLLATE "C" NOT NULL,
    actor_name  TEXT COLLATE "C" NOT NULL,
    action      TEXT COLLATE "C" NOT NULL,
    source      TEXT COLLATE "C" NOT NULL,
    outcome     TEXT COLLATE "C" NOT NULL,
    scope       TEXT COLLATE "C",
    subject     TEXT COLLATE "C",
    key         TEXT COLLATE "C",
    version     BIGINT,
    external    BIGINT           NOT NULL,
    destination TEXT COLLATE "C",
    count       BIGINT,
    hash        BYTEA            NOT NULL,
    mac         BYTEA            NOT NULL,
    UNIQUE (chain, sequence)
);

-- How often a key was used lately.
CREATE INDEX audit_by_key ON audit (chain, key, at) WHERE key IS NOT NULL;

-- The last link of each chain, also of one whose entries were all removed.
CREATE TABLE chain_heads (
    chain    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    sequence BIGINT           NOT NULL,
    hash     BYTEA            NOT NULL
);

CREATE TABLE checkpoints (
    chain     TEXT COLLATE "C" NOT NULL,
    sequence  BIGINT           NOT NULL,
    hash      BYTEA            NOT NULL,
    at        BIGINT           NOT NULL,
    signature BYTEA            NOT NULL,
    PRIMARY KEY (chain, sequence)
);

-- What commits touched. `written_by` is the transaction: rows become visible in no order of their positions.
CREATE TABLE changes (
    position   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    written_by XID8             NOT NULL DEFAULT pg_current_xact_id(),
    kind       TEXT COLLATE "C" NOT NULL,
    id         TEXT COLLATE "C",
    owner      TEXT COLLATE "C",
    scope      TEXT COLLATE "C",
    scope_id   TEXT COLLATE "C",
    key        TEXT COLLATE "C"
);

CREATE INDEX changes_by_transaction ON changes (written_by, position);
