-- What is drawn from accounts, what is owed on a chain, and how that is settled. Times are in seconds
-- since the epoch, UTC; "open" is 0 or 1; prices are in wei, which may be more than 64 bits.

-- Whose service a single request was for, and what it drew from which accounts: a JSON list of
-- [source, name, holder, amount].
ALTER TABLE usage_record
    ADD COLUMN did   text NOT NULL DEFAULT '',
    ADD COLUMN owner text NOT NULL DEFAULT '',
    ADD COLUMN spent text NOT NULL DEFAULT '[]';

-- Prepaid credits (source "prepaid": pool, user) and quotas (source "quota": which one and in which
-- period, whose).
CREATE TABLE account (
    source  text COLLATE "C" NOT NULL,
    name    text COLLATE "C" NOT NULL,
    holder  text COLLATE "C" NOT NULL,
    granted bigint           NOT NULL,
    spent   bigint           NOT NULL,
    updated double precision NOT NULL,
    PRIMARY KEY (source, name, holder)
);

CREATE INDEX account_quota_by_updated ON account (updated) WHERE source = 'quota';

-- What a payer owes on a chain: the contract, the token's id in digits, the payer's address. Usage adds
-- up in the one that is open.
CREATE TABLE charge (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source     text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    holder     text COLLATE "C" NOT NULL,
    credits    bigint           NOT NULL,
    state      text             NOT NULL,
    open       smallint         NOT NULL,
    settlement bigint,
    origin     bigint,
    reason     text             NOT NULL,
    created    double precision NOT NULL,
    updated    double precision NOT NULL,
    looked_at  double precision NOT NULL
);

CREATE UNIQUE INDEX charge_open ON charge (source, name, holder) WHERE open = 1;

CREATE INDEX charge_unburned ON charge (source, name, holder) WHERE state <> 'burned';

CREATE INDEX charge_by_state ON charge (state, id);

CREATE INDEX charge_by_settlement ON charge (settlement) WHERE settlement IS NOT NULL;

CREATE INDEX charge_to_look_at ON charge (looked_at, id) WHERE state = 'uncollected';

-- What burns charges of several payers: with one transaction, for which it may have signed several.
CREATE TABLE settlement (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    contract text             NOT NULL,
    account  text             NOT NULL,
    state    text             NOT NULL,
    nonce    bigint,
    attempts integer          NOT NULL,
    reason   text             NOT NULL,
    created  double precision NOT NULL,
    updated  double precision NOT NULL
);

CREATE INDEX settlement_by_state ON settlement (state, id);

-- The sum of a payer's charges, and how much of it is burned.
CREATE TABLE settlement_entry (
    settlement bigint           NOT NULL,
    holder     text COLLATE "C" NOT NULL,
    token_id   text COLLATE "C" NOT NULL,
    credits    bigint           NOT NULL,
    burn       bigint           NOT NULL,
    PRIMARY KEY (settlement, holder, token_id)
);

CREATE TABLE burn_transaction (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    settlement bigint           NOT NULL,
    hash       text             NOT NULL,
    raw        bytea            NOT NULL,
    nonce      bigint           NOT NULL,
    gas        bigint           NOT NULL,
    max_fee    text             NOT NULL,
    priority   text             NOT NULL,
    since      double precision NOT NULL,
    sent_at    double precision,
    block      bigint,
    gas_used   bigint,
    gas_price  text,
    outcome    text             NOT NULL
);

CREATE UNIQUE INDEX burn_transaction_by_settlement ON burn_transaction (settlement, hash);

-- What happened to charges, settlements and prepaid credits. A number is never used twice.
CREATE TABLE ledger_event (
    number  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    time    double precision NOT NULL,
    kind    text             NOT NULL,
    subject text COLLATE "C" NOT NULL,
    event   text             NOT NULL,
    before  text             NOT NULL,
    after   text             NOT NULL,
    detail  text             NOT NULL
);

CREATE INDEX ledger_event_by_subject ON ledger_event (kind, subject, number);
