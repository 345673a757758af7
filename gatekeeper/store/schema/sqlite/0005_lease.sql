-- What processes have set aside of accounts, to spend it without asking again. An owner is a process:
-- node and worker of its batches. Times are in seconds since the epoch, UTC.
CREATE TABLE lease (
    owner   TEXT    NOT NULL,
    source  TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    holder  TEXT    NOT NULL,
    credits INTEGER NOT NULL,
    renewed REAL    NOT NULL,
    PRIMARY KEY (source, name, holder, owner)
) WITHOUT ROWID;

CREATE INDEX lease_by_owner ON lease (owner);

CREATE INDEX charge_burned ON charge (source, name, holder, id) WHERE state = 'burned';

CREATE INDEX account_quota_by_holder ON account (holder) WHERE source = 'quota';
