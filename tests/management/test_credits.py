"""Credits over the API: what users were granted, what is owed on a chain, and the log of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from gatekeeper.credits.accounts import Answer, UnreadableError
from gatekeeper.credits.fees import Fees
from gatekeeper.credits.grouping import Entry
from gatekeeper.credits.ledger import ChargeState, Sent, Settlement, SettlementState
from gatekeeper.store.ledger import (
    ChargeRow,
    Kept,
    LedgerEvent,
    StoredSettlement,
    StoredTransaction,
)
from gatekeeper.usage.records import PREPAID, QUOTA, Account
from tests.management.api_house import NOW, House

LARGEST = 2**63 - 1
CONTRACT = "0x" + "c0" * 20
HOLDER, OTHER = "0x" + "a1" * 20, "0x" + "b2" * 20
TOKEN = "0x" + "0d" * 32
ON_CHAIN = Account(CONTRACT, str(int(TOKEN, 16)), HOLDER)
GRANTS = "/v1/credits/grants"
HASH = "0x" + "17" * 32


def prepaid(user: str, pool: str = "default") -> Account:
    return Account(PREPAID, pool, user)


def charge(number: int, state: ChargeState, credits: int = 5, **fields: Any) -> ChargeRow:
    row = ChargeRow(number, ON_CHAIN, credits, state, False, None, None, "", NOW, NOW + 1)
    return row._replace(**fields)


@pytest.fixture
def house() -> House:
    house = House()
    house.expired = []  # type: ignore[attr-defined]
    house.managed.expire = house.expired.append  # type: ignore[attr-defined]
    return house


def expired(house: House) -> list[Account]:
    found: list[Account] = house.expired  # type: ignore[attr-defined]
    return found


def fields(answer: Any) -> list[str]:
    return [error["field"] for error in answer.document["errors"]]


class TestGrants:
    def test_what_there_is_then(self, house: House) -> None:
        house.store.kept[prepaid("alice")] = Kept(100, 130)
        answer = house.call("POST", GRANTS, {"user": "alice", "credits": 50, "note": "invoice 7"})
        assert answer.status == 200
        assert answer.document == {
            "pool": "default", "user": "alice", "granted": 150, "spent": 130, "left": 20,
            "repeated": False,
        }  # fmt: skip
        (entry,) = house.store.entries
        assert (entry.time, entry.actor, entry.source) == (NOW, "token", "192.168.1.1")
        assert (entry.action, entry.subject) == ("credits.grant", "credits/default/alice")
        assert json.loads(entry.detail) == {"credits": 50, "note": "invoice 7"}

    def test_the_data_plane_reads_it_again(self, house: House) -> None:
        house.call("POST", GRANTS, {"user": "alice", "credits": 1, "pool": "maps"})
        assert expired(house) == [prepaid("alice", "maps")]

    def test_so_it_does_where_nobody_knows_what_the_store_has_done(self, house: House) -> None:
        house.store.away = True
        answer = house.call("POST", GRANTS, {"user": "alice", "credits": 1})
        assert (answer.status, answer.document["reason"]) == (503, "store_away")
        assert expired(house) == [prepaid("alice")]

    def test_asked_for_again(self, house: House) -> None:
        asked = {"user": "alice", "credits": 50, "id": "A-Z_0.9" + "a" * 57}
        first = house.call("POST", GRANTS, asked)
        assert (first.status, first.document["repeated"]) == (200, False)
        (entry,) = house.store.entries
        assert json.loads(entry.detail) == {"credits": 50, "id": asked["id"]}
        house.call("POST", GRANTS, {"user": "alice", "credits": 1, "id": None})
        for note in ("", "another one"):
            again = house.call("POST", GRANTS, {**asked, "note": note})
            assert again.status == 200
            assert again.document == {**first.document, "granted": 51, "left": 51, "repeated": True}
        assert len(house.store.entries) == 2

    @pytest.mark.parametrize("changed", [{"user": "bob"}, {"credits": 6}, {"pool": "maps"}])
    def test_another_one_under_its_id(self, house: House, changed: dict[str, Any]) -> None:
        asked = {"user": "alice", "credits": 5, "id": "one"}
        house.call("POST", GRANTS, asked)
        answer = house.call("POST", GRANTS, {**asked, **changed})
        assert (answer.status, answer.document["reason"]) == (409, "already_there")
        assert answer.document["detail"] == (
            "the grant `one` was made before, and with other contents: 5 credits for user `alice` "
            "in pool `default`"
        )
        assert house.store.kept == {prepaid("alice"): Kept(5, 0)}
        assert len(house.store.entries) == 1

    def test_some_are_taken_back(self, house: House) -> None:
        house.store.kept[prepaid("alice")] = Kept(10, 8)
        answer = house.call("POST", GRANTS, {"user": "alice", "credits": -5})
        assert (answer.document["granted"], answer.document["left"]) == (5, -3)

    def test_the_largest_number(self, house: House) -> None:
        answer = house.call("POST", GRANTS, {"user": "alice", "credits": LARGEST})
        assert answer.document["left"] == LARGEST
        answer = house.call("POST", GRANTS, {"user": "alice", "credits": 1})
        assert (answer.status, fields(answer)) == (422, ["credits"])
        assert house.store.kept == {prepaid("alice"): Kept(LARGEST, 0)}

    def test_more_than_was_granted_is_not_taken_back(self, house: House) -> None:
        answer = house.call("POST", GRANTS, {"user": "alice", "credits": -1})
        assert (answer.status, fields(answer)) == (422, ["credits"])
        assert house.store.entries == []

    @pytest.mark.parametrize(
        ("changed", "field", "status"),
        [
            ({"credits": LARGEST + 1}, "credits", 400),
            ({"credits": -LARGEST - 1}, "credits", 400),
            ({"credits": 10**400}, "credits", 400),
            ({"credits": 1.5}, "credits", 400),
            ({"credits": "1"}, "credits", 400),
            ({"credits": True}, "credits", 400),
            ({"credits": None}, "credits", 400),
            ({"credits": 0}, "credits", 422),
            ({"user": ""}, "user", 400),
            ({"user": "a\0"}, "user", 400),
            ({"user": "a" * 1025}, "user", 400),
            ({"pool": "a/b"}, "pool", 400),
            ({"pool": ""}, "pool", 400),
            ({"pool": "a" * 65}, "pool", 400),
            ({"note": "a\nb"}, "note", 400),
            ({"id": ""}, "id", 400),
            ({"id": "a" * 65}, "id", 400),
            ({"id": "a b"}, "id", 400),
            ({"id": "a/b"}, "id", 400),
            ({"id": "é"}, "id", 400),
            ({"id": "a\n"}, "id", 400),
            ({"id": 7}, "id", 400),
            ({"amount": 1}, "amount", 400),
        ],
    )
    def test_what_is_wrong_is_named(
        self, house: House, changed: dict[str, Any], field: str, status: int
    ) -> None:
        answer = house.call("POST", GRANTS, {"user": "alice", "credits": 1, **changed})
        assert (answer.status, fields(answer)) == (status, [field])
        assert house.store.kept == {}
        assert expired(house) == []

    def test_what_was_just_used_is_in_the_answer(self, house: House) -> None:
        def flush(urgent: bool) -> Deferred[bool]:
            house.store.kept[prepaid("alice")] = Kept(0, 4)
            return succeed(True)

        house.flush = flush
        answer = house.call("POST", GRANTS, {"user": "alice", "credits": 10})
        assert answer.document["left"] == 6


class TestAccounts:
    @pytest.fixture
    def house(self, house: House) -> House:
        for pool, user in (("a", "bob"), ("a", "alice"), ("b", "alice"), ("a", "a/b c")):
            house.store.kept[prepaid(user, pool)] = Kept(10, 3)
        house.store.kept[Account(QUOTA, "acme/user/day/2024-05-01", "alice")] = Kept(0, 9)
        return house

    def test_all(self, house: House) -> None:
        page = house.get("/v1/credits/accounts")
        assert [(each["pool"], each["user"]) for each in page["items"]] == [
            ("a", "a/b c"), ("a", "alice"), ("a", "bob"), ("b", "alice"),
        ]  # fmt: skip
        assert {each["left"] for each in page["items"]} == {7}
        assert page["next"] is None

    @pytest.mark.parametrize(
        ("query", "number"),
        [({"pool": "a"}, 3), ({"user": "alice"}, 2), ({"pool": "b", "user": "bob"}, 0)],
    )
    def test_some(self, house: House, query: dict[str, str], number: int) -> None:
        assert len(house.get("/v1/credits/accounts", **query)["items"]) == number

    def test_pages(self, house: House) -> None:
        found, after = [], ""
        while True:
            page = house.get("/v1/credits/accounts", limit=1, after=after)
            found += [(each["pool"], each["user"]) for each in page["items"]]
            if page["next"] is None:
                break
            after = page["next"]
        assert found == [("a", "a/b c"), ("a", "alice"), ("a", "bob"), ("b", "alice")]

    def test_one(self, house: House) -> None:
        assert house.get("/v1/credits/accounts/a/a%2Fb%20c") == {
            "pool": "a", "user": "a/b c", "granted": 10, "spent": 3, "left": 7,
        }  # fmt: skip

    def test_one_that_nothing_is_known_of(self, house: House) -> None:
        shown = house.get("/v1/credits/accounts/default/nobody")
        assert (shown["granted"], shown["spent"], shown["left"]) == (0, 0, 0)


class TestBalances:
    URL = "/v1/credits/balances"

    def read(self, house: House, answers: dict[Account, Answer]) -> list[Account]:
        asked: list[Account] = []

        async def balances(accounts: Sequence[Account]) -> list[Answer]:
            asked.extend(accounts)
            return [answers[each] for each in accounts]

        house.managed.balances = balances
        return asked

    def test_of_one_token(self, house: House) -> None:
        self.read(house, {ON_CHAIN: (2**200, 7)})
        query = {"holder": HOLDER.upper().replace("X", "x"), "contract": CONTRACT, "token": TOKEN}
        assert house.get(self.URL, **query)["items"] == [
            {
                "contract": CONTRACT,
                "token": TOKEN,
                "holder": HOLDER,
                "balance": 2**200,
                "owed": 7,
                "left": 2**200 - 7,
                "problem": None,
            }
        ]

    @pytest.mark.parametrize("token", ["did:nv:" + "0d" * 32, "0D" * 32])
    def test_other_ways_to_write_a_token(self, house: House, token: str) -> None:
        asked = self.read(house, {ON_CHAIN: (1, 0)})
        house.get(self.URL, holder=HOLDER, contract=CONTRACT, token=token)
        assert asked == [ON_CHAIN]

    def test_of_all_that_was_ever_charged(self, house: House) -> None:
        other = ON_CHAIN._replace(name="9")
        house.store.charged += [
            charge(1, ChargeState.BURNED),
            charge(2, ChargeState.PENDING),
            charge(3, ChargeState.PENDING, account=other),
            charge(4, ChargeState.PENDING, account=ON_CHAIN._replace(holder=OTHER)),
            charge(5, ChargeState.PENDING, account=ON_CHAIN._replace(name="no number")),
            charge(6, ChargeState.PENDING, account=ON_CHAIN._replace(name=str(2**256))),
            charge(7, ChargeState.PENDING, account=ON_CHAIN._replace(source="nowhere")),
        ]
        asked = self.read(house, {ON_CHAIN: (9, 5), other: UnreadableError("reverted")})
        good, bad = house.get(self.URL, holder=HOLDER)["items"]
        assert asked == [ON_CHAIN, other]
        assert (good["balance"], good["owed"], good["left"]) == (9, 5, 4)
        assert bad["token"] == "0x" + "0" * 63 + "9"
        assert (bad["balance"], bad["owed"], bad["left"]) == (None, None, None)
        assert bad["problem"] == "reverted"

    def test_nobody_is_asked_about_nothing(self, house: House) -> None:
        asked = self.read(house, {})
        assert house.get(self.URL, holder=HOLDER) == {"items": []}
        assert asked == []

    def test_nothing_can_be_read(self, house: House) -> None:
        answer = house.call("GET", f"{self.URL}?holder={HOLDER}&contract={CONTRACT}&token={TOKEN}")
        assert (answer.status, answer.document["reason"]) == (503, "store_away")

    @pytest.mark.parametrize(
        ("query", "status", "field"),
        [
            ("", 400, "holder"),
            ("holder=alice", 400, "holder"),
            (f"holder={HOLDER}&contract=0x1&token={TOKEN}", 400, "contract"),
            (f"holder={HOLDER}&contract={CONTRACT}&token=7", 400, "token"),
            (f"holder={HOLDER}&contract={CONTRACT}", 422, "token"),
            (f"holder={HOLDER}&token={TOKEN}", 422, "contract"),
        ],
    )
    def test_what_is_wrong_is_named(
        self, house: House, query: str, status: int, field: str
    ) -> None:
        answer = house.call("GET", f"{self.URL}?{query}")
        assert (answer.status, fields(answer)) == (status, [field])


class TestCharges:
    @pytest.fixture
    def house(self, house: House) -> House:
        house.store.charged += [
            charge(1, ChargeState.BURNED, settlement=3),
            charge(2, ChargeState.UNCOLLECTED, 2**62, origin=3, reason="not enough"),
            charge(3, ChargeState.ERROR, settlement=4, account=ON_CHAIN._replace(holder=OTHER)),
            charge(4, ChargeState.UNCOLLECTED, 2**62),
            charge(5, ChargeState.PENDING, open=True, account=ON_CHAIN._replace(name="9")),
        ]
        return house

    def ids(self, house: House, **query: object) -> list[int]:
        return [each["id"] for each in house.get("/v1/credits/charges", **query)["items"]]

    def test_the_newest_first(self, house: House) -> None:
        page = house.get("/v1/credits/charges", limit=4)
        assert [each["id"] for each in page["items"]] == [5, 4, 3, 2]
        assert page["items"][-1] == {
            "id": 2,
            "contract": CONTRACT,
            "token": TOKEN,
            "holder": HOLDER,
            "credits": 2**62,
            "state": "uncollected",
            "open": False,
            "settlement": None,
            "origin": 3,
            "reason": "not enough",
            "created": "2023-11-14T22:13:20.000Z",
            "updated": "2023-11-14T22:13:21.000Z",
        }
        assert page["next"] == 2
        assert self.ids(house, before=page["next"]) == [1]

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({"state": "pending"}, [5]),
            ({"state": ["uncollected", "error"]}, [4, 3, 2]),
            ({"holder": OTHER.upper().replace("X", "x")}, [3]),
            ({"contract": CONTRACT}, [5, 4, 3, 2, 1]),
            ({"token": "0" * 63 + "9"}, [5]),
            ({"settlement": 3}, [1]),
        ],
    )
    def test_filters(self, house: House, query: dict[str, object], found: list[int]) -> None:
        assert self.ids(house, **query) == found

    def test_owed(self, house: House) -> None:
        since = "2023-11-14T22:13:20.000Z"
        assert house.get("/v1/credits/owed")["items"] == [
            {"state": "pending", "credits": 5, "charges": 1, "since": since},
            {"state": "uncollected", "credits": 2**63, "charges": 2, "since": since},
            {"state": "error", "credits": 5, "charges": 1, "since": since},
        ]

    @pytest.mark.parametrize(("ids", "retried"), [([2, 3, 5], 2), (None, 3), ([LARGEST], 0)])
    def test_retry(self, house: House, ids: list[int] | None, retried: int) -> None:
        answer = house.call("POST", "/v1/credits/retry", {"ids": ids})
        assert (answer.status, answer.document) == (200, {"retried": retried})
        assert house.store.retried == [ids]
        (entry,) = house.store.entries
        assert (entry.time, entry.actor, entry.action) == (NOW, "token", "credits.retry")
        assert json.loads(entry.detail) == {"ids": ids}

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "ids"),
            ({"ids": []}, "ids"),
            ({"ids": [0]}, "ids[0]"),
            ({"ids": [1, LARGEST + 1]}, "ids[1]"),
            ({"ids": ["1"]}, "ids[0]"),
            ({"ids": [1] * 1001}, "ids"),
        ],
    )
    def test_retry_of_what(self, house: House, body: dict[str, Any], field: str) -> None:
        """Not of all because something was forgotten."""
        answer = house.call("POST", "/v1/credits/retry", body)
        assert (answer.status, fields(answer)) == (400, [field])
        assert house.store.retried == []


class TestLog:
    def test_settlements(self, house: House) -> None:
        raw = b"\x02\xf8signed"
        stored = StoredTransaction(
            HASH, raw, 7, 90_000, 10**20, 10**9, NOW, NOW + 1, 100, 91_000, 10**19, "succeeded"
        )
        state = Settlement(
            SettlementState.MINED, 7, (Sent(HASH, Fees(10**20, 10**9), NOW, NOW + 1),), 2
        )
        settlement = StoredSettlement(
            3, CONTRACT, OTHER, state, (Entry(HOLDER, 9, 5, 4, (1, 2)),), (stored,), "", NOW, NOW
        )
        house.store.settled += [
            settlement,
            settlement._replace(id=4, settlement=Settlement(SettlementState.CLAIMED)),
        ]
        answer = house.call("GET", "/v1/credits/settlements?limit=1&state=mined&state=error")
        (shown,) = answer.document["items"]
        assert (shown["id"], shown["state"], shown["attempts"]) == (3, "mined", 2)
        assert (shown["contract"], shown["account"]) == (CONTRACT, OTHER)
        assert shown["entries"] == [
            {"holder": HOLDER, "token": "0x" + "0" * 63 + "9", "credits": 5, "burn": 4}
        ]
        (transaction,) = shown["transactions"]
        assert transaction["hash"] == HASH
        assert (transaction["max_fee"], transaction["gas_price"]) == (10**20, 10**19)
        assert (transaction["block"], transaction["outcome"]) == (100, "succeeded")
        assert raw.hex().encode() not in answer.body
        assert "raw" not in transaction
        page = house.get("/v1/credits/settlements", limit=1)
        assert ([each["id"] for each in page["items"]], page["next"]) == ([4], 4)
        assert house.get("/v1/credits/settlements", before=4)["items"] == [shown]

    def test_the_log(self, house: House) -> None:
        house.store.log += [
            LedgerEvent(NOW, "prepaid", "default/a/b", "grant", "0", "5", '{"credits": 5}'),
            LedgerEvent(NOW, "charge", "12", "claim", "pending", "claimed"),
        ]
        page = house.get("/v1/credits/ledger", limit=1)
        assert page == {
            "items": [
                {
                    "number": 2,
                    "time": "2023-11-14T22:13:20.000Z",
                    "subject": "charge/12",
                    "event": "claim",
                    "before": "pending",
                    "after": "claimed",
                    "detail": {},
                }
            ],
            "next": 2,
        }
        (granted,) = house.get("/v1/credits/ledger", before=2)["items"]
        assert granted["detail"] == {"credits": 5}
        assert house.get("/v1/credits/ledger", subject=granted["subject"])["items"] == [granted]
        assert house.get("/v1/credits/ledger", subject="settlement/1")["items"] == []

    @pytest.mark.parametrize("subject", ["", "charge", "charge/", "user/alice", "charge/\0"])
    def test_a_subject_that_is_none(self, house: House, subject: str) -> None:
        answer = house.call("GET", "/v1/credits/ledger?subject=" + subject.replace("\0", "%00"))
        assert (answer.status, fields(answer)) == (400, ["subject"])
