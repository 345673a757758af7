-- What is drawn from accounts, what is owed on a chain, and how that is settled. Times are in seconds
-- since the epoch, UTC; "open" is 0 or 1; prices are in wei, which may be more than 64 bits.

-- Whose service a single request was for, and what it drew from which accounts: a JSON list of
-- [source, name, holder, amount].
ALTER TABLE usage_record ADD COLUMN did TEXT NOT NULL DEFAULT '';

ALTER TABLE usage_record ADD COLUMN owner TEXT NOT NULL DEFAULT '';

ALTER TABLE usage_record ADD COLUMN spent TEXT NOT NULL DEFAULT '[]';

-- Prepaid credits (source "prepaid": pool, user) and quotas (source "quota": which one and in which
-- period, whose).
CREATE TABLE account (
    source  TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    holder  TEXT    NOT NULL,
    granted INTEGER NOT NULL,
    spent   INTEGER NOT NULL,
    updated REAL    NOT NULL,
    PRIMARY KEY (source, name, holder)
) WITHOUT ROWID;

CREATE INDEX account_quota_by_updated ON account (updated) WHERE source = 'quota';

-- What a payer owes on a chain: the contract, the token's id in digits, the payer's address. Usage adds
-- up in the one that is open.
CREATE TABLE charge (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    source     TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    holder     TEXT    NOT NULL,
    credits    INTEGER NOT NULL,
    state      TEXT    NOT NULL,
    open       INTEGER NOT NULL,
    settlement INTEGER,
    origin     INTEGER,
    reason     TEXT    NOT NULL,
    created    REAL    NOT NULL,
    updated    REAL    NOT NULL,
    looked_at  REAL    NOT NULL
);

CREATE UNIQUE INDEX charge_open ON charge (source, name, holder) WHERE open = 1;

CREATE INDEX charge_unburned ON charge (source, name, holder) WHERE state <> 'burned';

CREATE INDEX charge_by_state ON charge (state, id);

CREATE INDEX charge_by_settlement ON charge (settlement) WHERE settlement IS NOT NULL;

CREATE INDEX charge_to_look_at ON charge (looked_at, id) WHERE state = 'uncollected';

-- What burns charges of several payers: with one transaction, for which it may have signed several.
CREATE TABLE settlement (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    contract TEXT    NOT NULL,
    account  TEXT    NOT NULL,
    state    TEXT    NOT NULL,
    nonce    INTEGER,
    attempts INTEGER NOT NULL,
    reason   TEXT    NOT NULL,
    created  REAL    NOT NULL,
    updated  REAL    NOT NULL
);

CREATE INDEX settlement_by_state ON settlement (state, id);

-- The sum of a payer's charges, and how much of it is burned.
CREATE TABLE settlement_entry (
    settlement INTEGER NOT NULL,
    holder     TEXT    NOT NULL,
    token_id   TEXT    NOT NULL,
    credits    INTEGER NOT NULL,
    burn       INTEGER NOT NULL,
    PRIMARY KEY (settlement, holder, token_id)
) WITHOUT ROWID;

CREATE TABLE burn_transaction (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    settlement INTEGER NOT NULL,
    hash       TEXT    NOT NULL,
    raw        BLOB    NOT NULL,
    nonce      INTEGER NOT NULL,
    gas        INTEGER NOT NULL,
    max_fee    TEXT    NOT NULL,
    priority   TEXT    NOT NULL,
    since      REAL    NOT NULL,
    sent_at    REAL,
    block      INTEGER,
    gas_used   INTEGER,
    gas_price  TEXT,
    outcome    TEXT    NOT NULL
);

CREATE UNIQUE INDEX burn_transaction_by_settlement ON burn_transaction (settlement, hash);

-- What happened to charges, settlements and prepaid credits. A number is never used twice.
CREATE TABLE ledger_event (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    time    REAL NOT NULL,
    kind    TEXT NOT NULL,
    subject TEXT NOT NULL,
    event   TEXT NOT NULL,
    before  TEXT NOT NULL,
    after   TEXT NOT NULL,
    detail  TEXT NOT NULL
);

CREATE INDEX ledger_event_by_subject ON ledger_event (kind, subject, number);
