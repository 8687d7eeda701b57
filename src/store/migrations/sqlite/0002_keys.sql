-- Which key-encryption keys there were and are. `head` is how everything begins that is sealed under the key; `promotion`
-- numbers the promotions of all keys, 0 for never. `unreadable` is how many rows did not open when they were last to be
-- put under another key; it is not authenticated.
CREATE TABLE keks (
    id          TEXT    NOT NULL PRIMARY KEY,
    head        BLOB    NOT NULL,
    tag         BLOB    NOT NULL,
    created_at  INTEGER NOT NULL,
    promotion   INTEGER NOT NULL,
    promoted_at INTEGER,
    retired_at  INTEGER,
    unreadable  INTEGER NOT NULL,
    mac         BLOB    NOT NULL
) STRICT;

-- Who serves, and which keys it has loaded: names and tags, a space between.
CREATE TABLE instances (
    id         TEXT    NOT NULL PRIMARY KEY,
    role       TEXT    NOT NULL,
    release    TEXT    NOT NULL,
    keks       TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL
) STRICT;

-- Who does what only one instance is to do.
CREATE TABLE leases (
    name       TEXT    NOT NULL PRIMARY KEY,
    holder     TEXT    NOT NULL,
    held_until INTEGER NOT NULL
) STRICT;
