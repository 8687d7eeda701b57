-- Which key-encryption keys there were and are. `head` is how everything begins that is sealed under the key; `promotion`
-- numbers the promotions of all keys, 0 for never. `unreadable` is how many rows did not open when they were last to be
-- put under another key; it is not authenticated.
CREATE TABLE keks (
    id          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    head        BYTEA            NOT NULL,
    tag         BYTEA            NOT NULL,
    created_at  BIGINT           NOT NULL,
    promotion   BIGINT           NOT NULL,
    promoted_at BIGINT,
    retired_at  BIGINT,
    unreadable  BIGINT           NOT NULL,
    mac         BYTEA            NOT NULL
);

-- Who serves, and which keys it has loaded: names and tags, a space between.
CREATE TABLE instances (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    role       TEXT COLLATE "C" NOT NULL,
    release    TEXT COLLATE "C" NOT NULL,
    keks       TEXT COLLATE "C" NOT NULL,
    started_at BIGINT           NOT NULL,
    seen_at    BIGINT           NOT NULL
);

-- Who does what only one instance is to do.
CREATE TABLE leases (
    name       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    holder     TEXT COLLATE "C" NOT NULL,
    held_until BIGINT           NOT NULL
);
