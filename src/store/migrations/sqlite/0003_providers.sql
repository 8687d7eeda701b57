-- Where an organization's references are looked up. `document` is what it configured; at most one is the default.

CREATE TABLE providers (
    organization TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    document     TEXT    NOT NULL,
    is_default   INTEGER NOT NULL,
    version      INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    mac          BLOB    NOT NULL,
    PRIMARY KEY (organization, name)
) STRICT;

CREATE UNIQUE INDEX one_default_provider ON providers (organization) WHERE is_default <> 0;
