-- The id that a grant of credits was given, so that it can be asked for again and is done once. It goes
-- with its entry.
ALTER TABLE ledger_event ADD COLUMN grant_id text COLLATE "C";

CREATE UNIQUE INDEX ledger_event_by_grant ON ledger_event (grant_id) WHERE grant_id IS NOT NULL;

-- What is old goes: grants by their time; charges with the settlement that has burned them; and that
-- when no charge is left that was in it, or comes from it.
CREATE INDEX ledger_event_grants_by_time ON ledger_event (time) WHERE event = 'grant';

CREATE INDEX settlement_by_update ON settlement (updated, id);

CREATE INDEX charge_by_origin ON charge (origin) WHERE origin IS NOT NULL;
