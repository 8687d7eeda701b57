-- Where an organization's references are looked up. `document` is what it configured; at most one is the default.

CREATE TABLE providers (
    organization TEXT COLLATE "C" NOT NULL,
    name         TEXT COLLATE "C" NOT NULL,
    document     TEXT COLLATE "C" NOT NULL,
    is_default   BIGINT           NOT NULL,
    version      BIGINT           NOT NULL,
    created_at   BIGINT           NOT NULL,
    updated_at   BIGINT           NOT NULL,
    mac          BYTEA            NOT NULL,
    PRIMARY KEY (organization, name)
);

CREATE UNIQUE INDEX one_default_provider ON providers (organization) WHERE is_default <> 0;
