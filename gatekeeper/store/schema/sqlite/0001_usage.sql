-- Usage by service, user, path and hour (seconds since the epoch, UTC).
CREATE TABLE usage (
    service   TEXT    NOT NULL,
    user_name TEXT    NOT NULL,
    path      TEXT    NOT NULL,
    hour      INTEGER NOT NULL,
    requests  INTEGER NOT NULL,
    bytes_in  INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL,
    units     INTEGER NOT NULL,
    duration  REAL    NOT NULL,
    PRIMARY KEY (service, user_name, path, hour)
) WITHOUT ROWID;

CREATE INDEX usage_by_hour ON usage (hour);

-- The batches that are in "usage" already, so that a repeated one counts once.
CREATE TABLE batch (
    node     TEXT    NOT NULL,
    worker   INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    written  INTEGER NOT NULL,
    PRIMARY KEY (node, worker, sequence)
) WITHOUT ROWID;

CREATE INDEX batch_by_written ON batch (written);
