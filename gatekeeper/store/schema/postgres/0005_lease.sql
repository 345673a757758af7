-- What processes have set aside of accounts, to spend it without asking again. An owner is a process:
-- node and worker of its batches. Times are in seconds since the epoch, UTC, by the server's clock.
CREATE TABLE lease (
    owner   text COLLATE "C" NOT NULL,
    source  text COLLATE "C" NOT NULL,
    name    text COLLATE "C" NOT NULL,
    holder  text COLLATE "C" NOT NULL,
    credits bigint           NOT NULL,
    renewed double precision NOT NULL,
    PRIMARY KEY (source, name, holder, owner)
);

CREATE INDEX lease_by_owner ON lease (owner);

CREATE INDEX charge_burned ON charge (source, name, holder, id) WHERE state = 'burned';

CREATE INDEX account_quota_by_holder ON account (holder) WHERE source = 'quota';
