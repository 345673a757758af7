-- What operators have made. Times are in seconds since the epoch, UTC; "disabled" is 0 or 1, groups are
-- a JSON list.

-- One row; every change makes it higher.
CREATE TABLE state (
    version bigint NOT NULL
);

INSERT INTO state (version) VALUES (0);

CREATE TABLE service (
    name       text COLLATE "C"  NOT NULL PRIMARY KEY,
    dialect    text              NOT NULL,
    definition text              NOT NULL,
    created    double precision  NOT NULL
);

CREATE TABLE service_user (
    service     text COLLATE "C" NOT NULL,
    user_name   text COLLATE "C" NOT NULL,
    password    text             NOT NULL,
    created     double precision NOT NULL,
    disabled    smallint         NOT NULL,
    expires     double precision,
    user_groups text             NOT NULL,
    PRIMARY KEY (service, user_name)
);

CREATE TABLE api_key (
    id          text COLLATE "C" NOT NULL PRIMARY KEY,
    service     text COLLATE "C" NOT NULL,
    user_name   text COLLATE "C" NOT NULL,
    digest      text             NOT NULL,
    created     double precision NOT NULL,
    label       text             NOT NULL,
    disabled    smallint         NOT NULL,
    expires     double precision,
    user_groups text             NOT NULL
);

CREATE INDEX api_key_by_user ON api_key (service, user_name);

CREATE TABLE revocation (
    digest  text COLLATE "C" NOT NULL PRIMARY KEY,
    until   double precision NOT NULL,
    created double precision NOT NULL
);

-- Who changed what. A number is never used twice.
CREATE TABLE audit (
    number  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    time    double precision NOT NULL,
    actor   text NOT NULL,
    source  text NOT NULL,
    action  text NOT NULL,
    subject text NOT NULL,
    detail  text NOT NULL
);
