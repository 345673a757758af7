from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from gatekeeper.explain_question import Question, QuestionError
from gatekeeper.net.resolver import Resolver
from tests.asker import (
    BASE,
    OPS,
    SECRET,
    Asker,
    a_config,
    an_asker,
    lines,
    said,
)
from tests.store.support import in_reactor

config = pytest.fixture(a_config)
asker = pytest.fixture(an_asker)


# --- what is no good before the chain ---------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "url", "fields", "status", "reason"),
    [
        ("GET", "https://api.example.com/none", [], 404, "no_service"),
        ("GET", "https://api.example.com/acmeevil", [], 404, "no_service"),
        ("GET", "https://api.example.com/acme/%2e%2e/x", [], 400, "bad_target"),
        ("GET", "https://api.example.com/acme/a b", [], 400, "bad_request"),
        ("GET", "https://api.example.com/acme\r\nX: y", [], 400, "bad_request"),
        ("GET", "https://api.example.com/é", [], 400, "bad_request"),
        ("GET", "https://0x7f.0.0.1:x/acme", [], 400, "bad_host"),
        ("GET", "https://x/acme", [("Host", "a"), ("Host", "b")], 400, "bad_request"),
        ("TRACE", "https://api.example.com/acme", [], 405, "trace"),
        ("FROB", "https://api.example.com/acme", [], 501, "unknown_method"),
        ("GET", "https://x/acme", [("Expect", "the-unexpected")], 417, "unknown_expectation"),
        ("POST", "https://x/acme", [("Transfer-Encoding", "gzip")], 501, "bad_transfer_encoding"),
        ("GET", "https://x/acme/" + 9000 * "x", [], 414, "target_too_long"),
    ],
)
@in_reactor
async def test_refused_before_the_chain(
    asker: Asker,
    method: str,
    url: str,
    fields: list[tuple[str, str]],
    status: int,
    reason: str,
) -> None:
    report = await asker.ask(method, url, *fields, listener="public")
    assert (report["answer"]["status"], report["answer"]["reason"]) == (status, reason)
    assert all(what == "not asked" for _, what in said(report))
    assert report["answer"]["passes"] is False
    assert report["access"] is report["opened"] is None
    assert f"{status} {reason}: " in lines(report)


@in_reactor
async def test_a_host_that_is_not_served(config: Path, asker: Asker) -> None:
    before, _, rest = BASE.partition('name = "acme"')
    only = rest.replace(
        '[[services]]\nname = "open"', '[[services]]\nname = "open"\nhosts = ["o.example"]'
    )
    asker.configure(f'{before}name = "acme"\nhosts = ["acme.example"]{only}')
    report = await asker.ask("GET", "https://other.example/acme")
    assert (report["answer"]["status"], report["answer"]["reason"]) == (421, "misdirected")
    report = await asker.ask("GET", "https://other.example/acme", ("Host", "acme.example"))
    assert report["service"] == "acme"
    assert report["url"] == "https://acme.example/acme"


# --- the forward proxy ------------------------------------------------------------------------

OPS_TO_PROXY = ("Proxy-Authorization", f"Bearer {SECRET}")


@pytest.mark.parametrize(
    ("method", "url", "answer"),
    [
        ("CONNECT", "api.example.com:443", "a tunnel to api.example.com:443"),
        ("CONNECT", "api.example.com:22", 403),
        ("CONNECT", "127.0.0.1:443", 403),
        ("CONNECT", "api.example.com", 400),
        ("GET", "http://a.example.org/x?y", "goes to http://a.example.org:80 as GET /x?***"),
        ("GET", "http://example.com/x", 403),
        ("GET", "https://example.com/x", 400),
        ("GET", "http://169.254.169.254/", 403),
    ],
)
@in_reactor
async def test_where_a_forward_proxy_goes(
    asker: Asker, method: str, url: str, answer: str | int
) -> None:
    report = await asker.ask(method, url, OPS_TO_PROXY, listener="proxy")
    if isinstance(answer, int):
        assert report["answer"]["status"] == answer
        assert report["answer"]["passes"] is False
    else:
        assert said(report) == [("users", "abstain"), (OPS, "grant")]
        assert report["service"] is None
        assert f"answer     {answer}\n" in lines(report)


@in_reactor
async def test_a_proxy_wants_its_own_credentials(asker: Asker) -> None:
    report = await asker.ask(
        "CONNECT", "api.example.com:443", ("Authorization", f"Bearer {SECRET}")
    )
    assert report["listener"]["name"] == "proxy"
    assert report["presented"] is None
    assert (report["answer"]["status"], report["answer"]["reason"]) == (407, "no_credentials")


@in_reactor
async def test_a_service_through_the_proxy(asker: Asker) -> None:
    report = await asker.ask(
        "GET", "http://www.example.com/x", ("Authorization", "Bearer of-nobody"), listener="proxy"
    )
    assert report["service"] == "site"
    assert report["url"] == "http://www.example.com/x"
    assert report["answer"]["reason"] == "invalid_credentials"


@in_reactor
async def test_the_destinations_addresses(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Knowing(Resolver):
        def resolve(self, host: str) -> Deferred[list[str]]:
            asked.append(host)
            answer: Deferred[list[str]] = Deferred()
            answer.callback({"public.example": ["8.8.8.8"], "inside.example": ["10.0.0.1"]}[host])
            return answer

    monkeypatch.setattr("gatekeeper.explain.Resolver", Knowing)
    report = await asker.ask("CONNECT", "public.example:443", OPS_TO_PROXY)
    assert (asked, report["answer"]["addresses"]) == ([], [])
    report = await asker.ask("CONNECT", "public.example:443", OPS_TO_PROXY, resolve=True)
    assert report["answer"]["addresses"] == ["8.8.8.8"]
    assert "a tunnel to public.example:443 (8.8.8.8)\n" in lines(report)
    report = await asker.ask("CONNECT", "inside.example:443", OPS_TO_PROXY, resolve=True)
    assert report["answer"]["reason"] == "destination_private"
    assert asked == ["public.example", "inside.example"]


@in_reactor
async def test_our_own_listeners_are_no_destination(config: Path, asker: Asker) -> None:
    asker.configure(BASE.replace('"localhost:9"', '"127.0.0.0/8:*"'))
    for port, reason in ((8080, "destination_private"), (6668, "destination_private"), (1, None)):
        report = await asker.ask("CONNECT", f"127.0.0.1:{port}", OPS_TO_PROXY)
        assert report["answer"].get("reason") == reason


# --- which listener ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "url", "listener"),
    [
        ("GET", "https://api.example.com/acme", "public"),
        ("GET", "https://192.0.2.1/acme", "public"),
        ("GET", "http://localhost:8080/acme", "plain"),
        ("GET", "http://127.0.0.1:8080/acme", "plain"),
        ("GET", "http://127.0.0.2:8080/acme", "proxy"),
        ("GET", "https://www.example.com:8443/", "public"),
        ("GET", "http://www.example.com/", "public"),
        ("GET", "http://nodes.example.com/", "plain"),
        ("GET", "http://elsewhere.example/", "proxy"),
        ("GET", "https://elsewhere.example:8443/", "public"),
        ("GET", "https://[::1]:bad/", "public"),
        ("CONNECT", "www.example.com:443", "proxy"),
    ],
)
@in_reactor
async def test_the_listener_that_fits_best(
    asker: Asker, method: str, url: str, listener: str
) -> None:
    report = await asker.ask(method, url)
    assert report["listener"]["name"] == listener
    assert report["listener"]["why"]


@in_reactor
async def test_several_listeners_fit(config: Path, asker: Asker) -> None:
    internal = """
        [[listeners]]
        name = "internal"
        role = "gateway"
        bind = "10.0.0.1:443"
        tls = { self_signed = true }
    """
    asker.configure(BASE + textwrap.dedent(internal))
    report = await asker.ask("GET", "https://api.example.com/acme")
    assert (report["listener"]["name"], report["listener"]["others"]) == ("public", ["internal"])
    assert "; so do internal\n" in lines(report).replace("\n           ", " ")
    report = await asker.ask("GET", "https://www.example.com/acme")
    assert (report["listener"]["name"], report["listener"]["others"]) == ("public", [])
    report = await asker.ask("GET", "https://www.example.com/acme", listener="internal")
    assert report["listener"]["why"] == "it was asked for"
    assert report["service"] == "acme"
    with pytest.raises(QuestionError, match="there are: public, plain, proxy, internal"):
        await asker.ask("GET", "https://www.example.com/", listener="nowhere")


@in_reactor
async def test_an_introspection_listener_is_none(config: Path, asker: Asker) -> None:
    introspection = '[[listeners]]\nname = "i"\nrole = "introspection"\ncheckers = ["keys"]\n'
    asker.configure(BASE.replace('"localhost:9"', '"127.0.0.0/8:*"') + introspection)
    report = await asker.ask("POST", "http://127.0.0.1:4000/introspect", OPS_TO_PROXY)
    assert report["listener"]["name"] == "proxy"
    assert report["answer"]["reason"] == "destination_private"
    with pytest.raises(QuestionError, match=r"there are: public, plain, proxy$"):
        await asker.ask("POST", "http://127.0.0.1:4000/introspect", listener="i")
    (kept,) = (each for each in asker.settings.listeners if each.name == "i")
    asker.settings = asker.settings.model_copy(update={"listeners": (kept,), "services": ()})
    with pytest.raises(QuestionError, match="neither a gateway nor a forward proxy"):
        await asker.ask("POST", "http://127.0.0.1:4000/introspect")


@pytest.mark.parametrize(
    ("removed", "method", "url", "reason"),
    [
        ("proxy", "CONNECT", "www.example.com:443", "connect"),
        ("public", "GET", "https://example.com/none", "no_service"),
    ],
)
@in_reactor
async def test_no_listener_fits(
    asker: Asker, removed: str, method: str, url: str, reason: str
) -> None:
    kept = [each for each in asker.settings.listeners if each.name != removed]
    asker.settings = asker.settings.model_copy(update={"listeners": tuple(kept)})
    report = await asker.ask(method, url)
    assert report["listener"]["name"] == kept[0].name
    assert report["listener"]["why"] == "it is the first; none fits the URL"
    assert report["answer"]["reason"] == reason


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "/acme"),
        ("GET", "ftp://example.com/"),
        ("GET", "www.example.com:443"),
        ("GET", f"https://alice:{SECRET}@example.com/"),
        ("CONNECT", "https://example.com:443"),
        ("CONNECT", f"alice:{SECRET}@example.com:443"),
    ],
)
def test_what_is_no_request(method: str, url: str) -> None:
    with pytest.raises(QuestionError) as caught:
        Question(method, url)
    assert SECRET not in str(caught.value)
