-- What an hour's usage was: of which model, and with which statuses.
ALTER TABLE usage
    ADD COLUMN model text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN status_1xx bigint NOT NULL DEFAULT 0,
    ADD COLUMN status_2xx bigint NOT NULL DEFAULT 0,
    ADD COLUMN status_3xx bigint NOT NULL DEFAULT 0,
    ADD COLUMN status_4xx bigint NOT NULL DEFAULT 0,
    ADD COLUMN status_5xx bigint NOT NULL DEFAULT 0;

ALTER TABLE usage
    DROP CONSTRAINT usage_pkey,
    ADD PRIMARY KEY (service, user_name, path, model, hour);

-- Hours that are old become days: rows whose hour is a day's first. This is where hours are found.
CREATE INDEX usage_to_roll_up ON usage (hour) WHERE hour % 86400 <> 0;

-- One row: usage of hours before this is in days.
CREATE TABLE rolled_up (
    before bigint NOT NULL
);

INSERT INTO rolled_up (before) VALUES (0);

-- Single requests, where they are kept. Each day (UTC) of "start", in seconds since the epoch, has a
-- partition usage_record_YYYYMMDD, made when it is needed and dropped when it is too old.
CREATE TABLE usage_record (
    id              text             NOT NULL,
    start           double precision NOT NULL,
    duration        double precision NOT NULL,
    service         text             NOT NULL,
    user_name       text COLLATE "C" NOT NULL,
    key_id          text             NOT NULL,
    method          text             NOT NULL,
    path            text             NOT NULL,
    status          integer          NOT NULL,
    upstream_status integer          NOT NULL,
    bytes_in        bigint           NOT NULL,
    bytes_out       bigint           NOT NULL,
    units           bigint           NOT NULL,
    reason          text             NOT NULL,
    model           text             NOT NULL
) PARTITION BY RANGE (start);

CREATE INDEX usage_record_by_start ON usage_record (start);

CREATE INDEX usage_record_by_user ON usage_record (user_name, start);
