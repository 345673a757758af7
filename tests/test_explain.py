from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from zope.interface import implementer

from gatekeeper.auth.access_token import AccessTokenChecker
from gatekeeper.auth.access_token_settings import AccessTokenSettings
from gatekeeper.auth.interfaces import Credentials, IChecker, Unavailable, Verdict
from gatekeeper.auth.registry import make_checkers
from gatekeeper.errors import ConfigurationError
from gatekeeper.explain_report import Report
from tests.asker import (
    ANYBODY,
    BASE,
    OPS,
    SECRET,
    Asker,
    a_config,
    an_asker,
    good_token,
    lines,
    said,
)
from tests.auth.support import basic
from tests.documents import BLOCKS
from tests.store.support import in_reactor

config = pytest.fixture(a_config)
asker = pytest.fixture(an_asker)


# --- the chain --------------------------------------------------------------------------------


@in_reactor
async def test_the_first_checker_that_knows_it_ends_the_chain(asker: Asker) -> None:
    report = await asker.ask(
        "GET", "https://api.example.com/acme/x?key=value", ("Authorization", good_token())
    )
    assert said(report) == [("keys", "grant"), ("users", "not asked"), (OPS, "not asked")]
    (granted, *_) = report["checkers"]
    assert (granted["user"], granted["key_id"]) == ("003", "003")
    assert granted["groups"] == ["spender", "stats"]
    assert granted["expires"].endswith("Z")
    assert report["listener"]["name"] == "public"
    assert report["service"] == "acme"
    assert report["url"] == "https://api.example.com/acme/x?***"
    assert report["presented"] == "bearer"
    assert report["access"] == {"rule": "access[1]: /acme/**, GET, POST, anybody", "passes": True}
    assert report["answer"] == {
        "passes": True,
        "method": "GET",
        "to": "http://127.0.0.1:10000",
        "path": "/base/x?***",
        "addresses": [],
    }


@in_reactor
async def test_several_upstreams(asker: Asker) -> None:
    urls = '["http://127.0.0.1:10000/base", "http://127.0.0.2:10000/base"]'
    asker.configure(BASE.replace('"http://127.0.0.1:10000/base"', urls))
    report = await asker.ask(
        "GET", "https://api.example.com/acme/x", ("Authorization", good_token())
    )
    assert report["answer"]["to"] == ["http://127.0.0.1:10000", "http://127.0.0.2:10000"]
    words = "goes to http://127.0.0.1:10000 or http://127.0.0.2:10000 as GET /base/x"
    assert words in " ".join(lines(report).split())


@in_reactor
async def test_a_grant_until_doomsday(asker: Asker) -> None:
    report = await asker.ask(
        "GET", "https://api.example.com/acme", ("Authorization", good_token(10**12))
    )
    assert report["checkers"][0]["expires"] == "1000000000000.0"


@in_reactor
async def test_who_abstains_leaves_it_to_the_next(asker: Asker) -> None:
    report = await asker.ask(
        "GET", "http://localhost:8080/acme", ("Authorization", f"Bearer {SECRET}")
    )
    assert said(report) == [("keys", "abstain"), ("users", "abstain"), (OPS, "grant")]
    assert report["checkers"][2]["user"] == "ops"
    assert report["checkers"][2]["headers"] == ["x-sf-user-id"]
    assert report["answer"]["path"] == "/base"


@in_reactor
async def test_a_checker_that_answers_later_and_denies(asker: Asker) -> None:
    report = await asker.ask(
        "GET", "https://api.example.com/acme", ("authorization", basic("alice", "wrong"))
    )
    assert said(report) == [("keys", "abstain"), ("users", "deny"), (OPS, "not asked")]
    assert report["checkers"][1] == {
        "checker": "users",
        "said": "deny",
        "status": 401,
        "reason": "wrong_password",
        "detail": "User name or password are wrong.",
    }
    assert report["access"] is None
    assert (report["answer"]["status"], report["answer"]["reason"]) == (401, "wrong_password")
    assert [c.split(" ")[0] for c in report["answer"]["challenges"]] == ["Bearer", "Basic"]


@pytest.mark.parametrize(
    ("fields", "presented", "reason"),
    [
        ([], None, "no_credentials"),
        ([("Authorization", "a-bare-secret")], "other", "invalid_credentials"),
        ([("Authorization", "Hawk something")], "other", "invalid_credentials"),
        ([("Authorization", "Bearer something")], "bearer", "invalid_credentials"),
    ],
)
@in_reactor
async def test_nobody_takes_it(
    asker: Asker, fields: list[tuple[str, str]], presented: str | None, reason: str
) -> None:
    report = await asker.ask("GET", "https://api.example.com/acme", *fields)
    assert [what for _, what in said(report)] == ["abstain"] * 3
    assert report["presented"] == presented
    assert (report["answer"]["status"], report["answer"]["reason"]) == (401, reason)


@pytest.mark.parametrize(
    ("answer", "row", "words", "reason"),
    [
        (
            Unavailable("away", "Try again."),
            {"said": "unavailable", "reason": "away", "detail": "Try again."},
            "unavailable, away: Try again.",
            "away",
        ),
        (
            KeyError(SECRET),
            {"said": "fault", "fault": "KeyError"},
            "fault: KeyError",
            "checker_failed",
        ),
        (
            "yes",
            {"said": "fault", "fault": "str is no verdict"},
            "fault: str is no verdict",
            "checker_failed",
        ),
    ],
)
@pytest.mark.parametrize("later", [False, True])
@in_reactor
async def test_a_checker_that_cannot_tell(
    asker: Asker,
    monkeypatch: pytest.MonkeyPatch,
    answer: Any,
    row: Report,
    words: str,
    reason: str,
    later: bool,
) -> None:
    @implementer(IChecker)
    class Broken:
        challenges = ()
        varies = None

        def check(self, credentials: Credentials) -> Verdict | Deferred[Verdict]:
            if later:
                deferred: Deferred[Verdict] = Deferred()
                fire = deferred.errback if isinstance(answer, Exception) else deferred.callback
                fire(answer)
                return deferred
            if isinstance(answer, Exception):
                raise answer
            return answer  # type: ignore[no-any-return]

        def close(self) -> None:
            pass

    monkeypatch.setattr(
        "gatekeeper.explain.make_checkers", lambda s: {**make_checkers(s), "keys": Broken()}
    )
    report = await asker.ask("GET", "https://api.example.com/acme")
    assert report["checkers"][0] == {"checker": "keys", **row}
    assert [what for _, what in said(report)][1:] == ["not asked"] * 2
    assert (report["answer"]["status"], report["answer"]["reason"]) == (503, reason)
    assert f"keys: {words}\n" in lines(report)


@in_reactor
async def test_what_a_checker_provides_beside_is_kept(config: Path, asker: Asker) -> None:
    asker.configure(
        BASE.replace('type = "api-key"', 'type = "api-key"\ncompat_status = "cyphernode"')
    )
    report = await asker.ask("GET", "https://api.example.com/acme")
    assert (report["answer"]["status"], report["answer"]["reason"]) == (403, "no_credentials")


@pytest.mark.parametrize(("peer", "what"), [("10.1.2.3", "grant"), (ANYBODY, "abstain")])
@in_reactor
async def test_the_peer_that_is_trusted(asker: Asker, peer: str, what: str) -> None:
    report = await asker.ask(
        *("GET", "https://www.example.com/x"),
        *(("X-SF-User-Id", "bob\x9b2J"), ("X-Forwarded-For", "192.0.2.1, 10.9.9.9")),
        peer=peer,
    )
    assert said(report) == [("<trust://?allowed=x-sf-user-id>", what)]
    assert report["peer_trusted"] is (what == "grant")
    assert report["client"] == ("192.0.2.1" if what == "grant" else peer)
    assert "\x9b" not in lines(report)


@in_reactor
async def test_a_trusted_peers_word(asker: Asker) -> None:
    report = await asker.ask(
        "GET", "https://a.pages.example.com/x", ("X-SF-User-Id", "bob"), peer="10.1.2.3"
    )
    assert report["checkers"][0]["user"] == "bob"
    assert report["answer"]["to"] == "https://[::1]:8443"
    assert report["answer"]["path"] == "/x"
    assert "from       10.1.2.3, a trusted peer\n" in lines(report)


# --- without the chain ------------------------------------------------------------------------


@in_reactor
async def test_an_open_method(asker: Asker) -> None:
    report = await asker.ask("OPTIONS", "https://www.example.com/x")
    assert report["unchecked"] == "the method is one of `open_methods`"
    assert said(report) == [("<trust://?allowed=x-sf-user-id>", "not asked")]
    assert report["answer"]["passes"] is True


@pytest.mark.parametrize(("length", "reason"), [(10, None), (11, "body_too_large")])
@in_reactor
async def test_a_public_service(asker: Asker, length: int, reason: str | None) -> None:
    report = await asker.ask(
        "POST", "https://api.example.com/open", ("Content-Length", str(length))
    )
    assert report["unchecked"] == "there are no checkers"
    assert report["checkers"] == []
    assert report["answer"].get("reason") == reason


# --- authorization ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "rule", "passes"),
    [
        ("POST", "/spend/1", "access[0]: /acme/spend/**, POST, groups spender", False),
        ("GET", "/spend/1", "access[1]: /acme/**, GET, POST, anybody", True),
        ("DELETE", "/spend/1", "no rule fits", False),
    ],
)
@in_reactor
async def test_the_rule_that_decides(
    asker: Asker, method: str, path: str, rule: str, passes: bool
) -> None:
    report = await asker.ask(
        method, f"https://x.example/acme{path}", ("Authorization", basic("alice", "wonderland"))
    )
    assert report["access"] == {"rule": rule, "passes": passes}
    assert report["answer"]["passes"] is passes
    if not passes:
        assert report["answer"]["reason"] == "insufficient_scope"


@pytest.mark.parametrize(
    ("path", "groups", "rule"),
    [
        ("/acme/v0/spend/x", "spender", "group spender"),
        ("/acme/v0/unlisted", "spender", "no action of the file, nobody"),
        ("/acme/s/stats/x", "stats", "group stats"),
        ("/acme/other", "stats", "no action of the file, nobody"),
    ],
)
@in_reactor
async def test_the_action_that_decides(
    config: Path, asker: Asker, path: str, groups: str, rule: str
) -> None:
    (config.parent / "actions").write_text("action_spend=spender\n")
    before, _, rest = BASE.partition("access = [")
    asker.configure(before + 'actions_file = "actions"\n' + rest.partition("\n]\n")[2])
    report = await asker.ask("GET", f"https://x.example{path}", ("Authorization", good_token()))
    passes = rule.startswith("group")
    assert report["access"] == {"rule": rule, "passes": passes}
    assert report["answer"]["passes"] is passes


def minted(asker: Asker, *urls: str, authorization: str) -> str:
    settings = asker.settings.checkers["nevermined"].settings
    assert isinstance(settings, AccessTokenSettings)
    checker = AccessTokenChecker.configured("nevermined", settings)
    now = int(time.time())
    return "Bearer " + checker.mint(
        {
            "userId": "0x1234",
            "endpoints": list(urls),
            "headers": {"authentication": {"type": "bearer", "token": authorization}},
            "iat": now,
            "exp": now + 60,
        }
    )


@in_reactor
async def test_what_a_token_opens(asker: Asker) -> None:
    fields = (
        "Authorization",
        minted(asker, "https://nodes.example.com/v1/(.*)", authorization="upstreams-own"),
    )
    report = await asker.ask("GET", "https://nodes.example.com/v1/x", fields)
    assert report["checkers"][0]["limited_to_urls"] is True
    assert report["opened"] == {
        "passes": True,
        "origin": "https://nodes.example.com:443",
        "own_authorization": True,
    }
    assert report["answer"]["to"] == "https://nodes.example.com:443"
    assert report["answer"]["path"] == "/v1/x"
    assert "upstreams-own" not in json.dumps(report)

    report = await asker.ask("GET", "https://nodes.example.com/v2/x", fields)
    assert said(report) == [("nevermined", "grant")]
    assert report["opened"] == {"passes": False}
    assert (report["answer"]["status"], report["answer"]["reason"]) == (403, "not_opened")
    assert "opened     no URL of the grant's\n" in lines(report)


@in_reactor
async def test_a_token_cannot_lead_where_the_service_does_not_allow(asker: Asker) -> None:
    token = minted(asker, "http://nodes.example.com/(.*)", authorization="upstreams-own")
    report = await asker.ask(
        "GET", "http://nodes.example.com/", ("Authorization", token), listener="plain"
    )
    assert report["opened"]["passes"] is True
    assert report["answer"]["reason"] == "destination_not_allowed"


# --- in general -----------------------------------------------------------------------------


@in_reactor
async def test_a_configuration_that_only_the_daemon_would_refuse(
    config: Path, asker: Asker
) -> None:
    (config.parent / "keys.properties").write_text("nonsense\n")
    with pytest.raises(ConfigurationError, match=r"checkers\.keys\.file"):
        await asker.ask("GET", "https://api.example.com/acme")


@in_reactor
async def test_the_example_in_the_documents(asker: Asker) -> None:
    (block,) = (b for b in BLOCKS if b.text.startswith("$ gatekeeper explain"))
    command, _, shown = block.text.partition("\n")
    method, url = command.split()[3:5]
    report = await asker.ask(method, url, ("Authorization", basic("alice", "wonderland")))
    answered, _, challenge = lines(report).rpartition("challenge")
    assert answered == shown
    assert "insufficient_scope" in challenge
