-- What operators have made. Times are in seconds since the epoch, UTC; "disabled" is 0 or 1, groups are
-- a JSON list.

-- One row; every change makes it higher.
CREATE TABLE state (
    version INTEGER NOT NULL
);

INSERT INTO state (version) VALUES (0);

CREATE TABLE service (
    name       TEXT NOT NULL PRIMARY KEY,
    dialect    TEXT NOT NULL,
    definition TEXT NOT NULL,
    created    REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE service_user (
    service     TEXT    NOT NULL,
    user_name   TEXT    NOT NULL,
    password    TEXT    NOT NULL,
    created     REAL    NOT NULL,
    disabled    INTEGER NOT NULL,
    expires     REAL,
    user_groups TEXT    NOT NULL,
    PRIMARY KEY (service, user_name)
) WITHOUT ROWID;

CREATE TABLE api_key (
    id          TEXT    NOT NULL PRIMARY KEY,
    service     TEXT    NOT NULL,
    user_name   TEXT    NOT NULL,
    digest      TEXT    NOT NULL,
    created     REAL    NOT NULL,
    label       TEXT    NOT NULL,
    disabled    INTEGER NOT NULL,
    expires     REAL,
    user_groups TEXT    NOT NULL
) WITHOUT ROWID;

CREATE INDEX api_key_by_user ON api_key (service, user_name);

CREATE TABLE revocation (
    digest  TEXT NOT NULL PRIMARY KEY,
    until   REAL NOT NULL,
    created REAL NOT NULL
) WITHOUT ROWID;

-- Who changed what. A number is never used twice.
CREATE TABLE audit (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    time    REAL NOT NULL,
    actor   TEXT NOT NULL,
    source  TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL
);
