-- What an hour's usage was: of which model, and with which statuses. SQLite cannot change a primary
-- key, so the table is made anew.
CREATE TABLE usage_2 (
    service    TEXT    NOT NULL,
    user_name  TEXT    NOT NULL,
    path       TEXT    NOT NULL,
    model      TEXT    NOT NULL DEFAULT '',
    hour       INTEGER NOT NULL,
    requests   INTEGER NOT NULL,
    bytes_in   INTEGER NOT NULL,
    bytes_out  INTEGER NOT NULL,
    units      INTEGER NOT NULL,
    duration   REAL    NOT NULL,
    status_1xx INTEGER NOT NULL DEFAULT 0,
    status_2xx INTEGER NOT NULL DEFAULT 0,
    status_3xx INTEGER NOT NULL DEFAULT 0,
    status_4xx INTEGER NOT NULL DEFAULT 0,
    status_5xx INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (service, user_name, path, model, hour)
) WITHOUT ROWID;

INSERT INTO usage_2
    (service, user_name, path, hour, requests, bytes_in, bytes_out, units, duration)
SELECT service, user_name, path, hour, requests, bytes_in, bytes_out, units, duration FROM usage;

DROP TABLE usage;

ALTER TABLE usage_2 RENAME TO usage;

CREATE INDEX usage_by_hour ON usage (hour);

-- Hours that are old become days: rows whose hour is a day's first. This is where hours are found.
CREATE INDEX usage_to_roll_up ON usage (hour) WHERE hour % 86400 <> 0;

-- One row: usage of hours before this is in days.
CREATE TABLE rolled_up (
    before INTEGER NOT NULL
);

INSERT INTO rolled_up (before) VALUES (0);

-- Single requests, where they are kept; "start" is in seconds since the epoch, UTC.
CREATE TABLE usage_record (
    id              TEXT    NOT NULL,
    start           REAL    NOT NULL,
    duration        REAL    NOT NULL,
    service         TEXT    NOT NULL,
    user_name       TEXT    NOT NULL,
    key_id          TEXT    NOT NULL,
    method          TEXT    NOT NULL,
    path            TEXT    NOT NULL,
    status          INTEGER NOT NULL,
    upstream_status INTEGER NOT NULL,
    bytes_in        INTEGER NOT NULL,
    bytes_out       INTEGER NOT NULL,
    units           INTEGER NOT NULL,
    reason          TEXT    NOT NULL,
    model           TEXT    NOT NULL
);

CREATE INDEX usage_record_by_start ON usage_record (start);

CREATE INDEX usage_record_by_user ON usage_record (user_name, start);
