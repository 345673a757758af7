from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_twisted
import treq
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.web.http_headers import Headers
from zope.interface import implementer

from gatekeeper.auth.access_token import AccessTokenChecker
from gatekeeper.auth.api_key import ApiKeyChecker
from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.interfaces import (
    ABSTAIN,
    Credentials,
    Deny,
    Grant,
    IChecker,
    Unavailable,
    Verdict,
)
from gatekeeper.auth.jwe import TokenCipher
from gatekeeper.auth.keyfile import KeyFile
from gatekeeper.auth.metadata import MetadataClient
from gatekeeper.auth.null import NullChecker
from gatekeeper.auth.secret import SecretChecker
from gatekeeper.auth.token_claims import Lifetime
from gatekeeper.auth.url_patterns import Backend, OriginUrl
from gatekeeper.config.model_listeners import Listener
from gatekeeper.config.values import parse_network
from gatekeeper.management.introspection import Introspection
from gatekeeper.management.introspection_service import (
    IntrospectionRequest,
    IntrospectionService,
    make_dialects,
)
from gatekeeper.management.site import BoundedSite
from gatekeeper.net.binding import listening_socket
from tests.auth.http_peers import FakeHttp
from tests.auth.support import KEYS, NOW, good_token
from tests.auth.test_access_token import (
    CLAIMS,
    DID,
    DID_HOST,
    KEY,
    OWNER,
    USER,
    mint,
)
from tests.auth.test_metadata import document
from tests.management.test_management import Answer

URL = "https://api.example.com/v1/x?y=z"
CALLER = "Bearer s3cret-of-callers"
NO_MORE = ("nothing",)  # an answer that has not come yet


@implementer(IChecker)
class Saying:
    """Knows one token, and says of it what it is told to; leaves others alone."""

    challenges = (b'Bearer realm="gatekeeper"',)
    varies: frozenset[bytes] | None = None

    def __init__(self, verdict: Verdict | Deferred[Verdict], token: bytes = b"tok") -> None:
        self.verdict = verdict
        self.token = token
        self.asked: list[Credentials] = []

    def check(self, credentials: Credentials) -> Verdict | Deferred[Verdict]:
        if credentials.presented != b"Bearer " + self.token:
            return ABSTAIN
        self.asked.append(credentials)
        return self.verdict

    def close(self) -> None:
        pass


class House:
    """An introspection listener, in memory."""

    def __init__(
        self,
        *tokens: IChecker,
        callers: tuple[IChecker, ...] = (
            SecretChecker.from_url("secret://s3cret-of-callers?user_id=nginx"),
        ),
        trusted_peers: tuple[str, ...] = (),
    ) -> None:
        names = {f"c{i}": checker for i, checker in enumerate((*tokens, *callers))}
        listener = Listener(
            name="intro",
            role="introspection",
            checkers=tuple(names)[: len(tokens)],
            callers=tuple(names)[len(tokens) :] or None,
            trusted_peers=trusted_peers,
        )
        cache = VerdictCache(99, 300, 5, wall=lambda: NOW)
        networks = [parse_network(network) for network in listener.trusted_peers]
        resource = Introspection(*make_dialects(listener, names, cache), networks).resource()
        self.site = BoundedSite(resource, IntrospectionRequest, Clock(), most=9, head=40960)
        self.channel: Any = None

    def send(self, request: bytes, peer: str = "127.0.0.1") -> bytes:
        kind = IPv6Address if ":" in peer else IPv4Address
        transport = StringTransport(peerAddress=kind("TCP", peer, 9))
        self.channel = self.site.buildProtocol(None)
        self.channel.makeConnection(transport)
        self.channel.dataReceived(request)
        answered: bytes = transport.value()
        return answered

    def post(
        self,
        fields: Mapping[str, str] | list[tuple[str, str]],
        body: bytes = b"",
        *,
        path: str = "/introspect",
        method: str = "POST",
        peer: str = "127.0.0.1",
    ) -> Answer:
        pairs = list(fields.items()) if isinstance(fields, Mapping) else fields
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in pairs if value]
        raw = self.send("\r\n".join([*lines, "", ""]).encode() + body, peer)
        assert raw, NO_MORE
        answer = Answer(raw)
        assert answer.fields["cache-control"] == "no-store"
        return answer

    def nevermined(self, token: bytes = b"", url: str = URL, **options: Any) -> Answer:
        """Ask as Nevermined's nginx does, its content type included."""
        fields = {
            "Authorization": token.decode(),
            "NVM-Requested-Url": url,
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return self.post(fields, **options)

    def oauth(self, token: str | None = "tok", caller: str = CALLER, **more: str) -> Answer:
        """Ask by RFC 7662."""
        form = more if token is None else {"token": token, **more}
        return self.form(urlencode(form).encode(), caller)

    def form(self, body: bytes, caller: str = CALLER, peer: str = "127.0.0.1") -> Answer:
        content_type = "application/x-www-form-urlencoded;charset=UTF-8"
        fields = {"Authorization": caller, "Content-Type": content_type}
        return self.post(fields, body, peer=peer)


def access_tokens(key: bytes = KEY, **options: Any) -> AccessTokenChecker:
    return AccessTokenChecker("nvm", TokenCipher(key), seconds=lambda: NOW, **options)


def is_refused(answer: Answer) -> bool:
    """Whether it is a 401 with an empty body, as it should be."""
    if answer.status != 401:
        return False
    assert answer.body == b""
    assert answer.fields["content-length"] == "0"
    assert answer.fields["www-authenticate"] == 'bearer realm="gatekeeper"'
    return True


@pytest.fixture
def house() -> House:
    return House(access_tokens())


class TestNevermined:
    def test_a_good_token(self, house: House) -> None:
        answer = house.nevermined(mint())
        assert answer.status == 200
        assert answer.fields["content-type"] == "application/json"
        assert answer.document == {
            "active": True,
            "user_id": USER,
            "owner": OWNER,
            "auth_type": "bearer",
            "upstream_host": "api.example.com",
            "scope": DID,
            "exp": int(NOW) + 60,
            "iat": int(NOW),
            "ercType": 721,
            "service_token": "upstream-token",
            "auth_header": "Bearer upstream-token",
        }

    @pytest.mark.parametrize(
        ("authentication", "token", "header"),
        [
            ({"type": "none"}, "", ""),
            ({"type": "bearer", "token": "t"}, "t", "Bearer t"),
            ({"type": "oauth", "token": "t"}, "t", "Bearer t"),
            ({"type": "basic", "username": "u", "password": "p"}, "dTpw", "Basic dTpw"),
        ],
    )
    def test_the_upstreams_credential(
        self, house: House, authentication: dict[str, str], token: str, header: str
    ) -> None:
        document = house.nevermined(mint(headers={"authentication": authentication})).document
        assert document["auth_type"] == authentication["type"]
        assert document["service_token"] == token
        assert document["auth_header"] == header

    def test_a_backend_with_a_credential_of_its_own(self) -> None:
        backend = Backend(OriginUrl("https", "api.example.com", 443), b"Bearer backend-token")
        basic = {"authentication": {"type": "basic", "username": "u", "password": "p"}}
        answer = House(access_tokens(backend=backend)).nevermined(mint(headers=basic))
        assert answer.document["auth_type"] == "bearer"
        assert answer.document["service_token"] == "backend-token"
        assert answer.document["auth_header"] == "Bearer backend-token"

    @pytest.mark.parametrize(
        ("url", "host"),
        [
            ("https://api.example.com/v1/", "api.example.com"),
            ("https://API.example.com:443/v1/a", "api.example.com"),
            ("http://api.example.com/v1/a/b?c", "api.example.com"),  # TLS may end in nginx
            ("http://inner:8080/a", "inner:8080"),
        ],
    )
    def test_the_upstream(self, house: House, url: str, host: str) -> None:
        assert house.nevermined(mint(), url).document["upstream_host"] == host

    def test_an_upstream_with_an_ipv6_address(self, house: House) -> None:
        token = mint(endpoints=["http://[::1]:81/a", "http://[::1]/b"])
        for url, host in (("http://[::1]:81/a", "[::1]:81"), ("http://[::1]/b", "[::1]")):
            assert house.nevermined(token, url).document["upstream_host"] == host

    def test_what_a_token_does_not_say(self) -> None:
        house = House(access_tokens(lifetime=Lifetime(required=False)))
        missing: dict[str, Any] = dict.fromkeys(["did", "owner", "ercType", "headers"], ...)
        document = house.nevermined(mint(**missing, iat=..., exp=...)).document
        assert list(document) == list(House(access_tokens()).nevermined(mint()).document)
        assert {name for name, value in document.items() if value == ""} == {
            "owner", "scope", "exp", "iat", "ercType", "service_token", "auth_header",
        }  # fmt: skip
        assert document["auth_type"] == "none"

    @pytest.mark.parametrize(
        "token",
        [
            b"",
            b"Bearer",
            b"Bearer x",
            b"Bearer a.b.c.d.e",
            mint()[7:],  # without the scheme
            b"Basic " + mint()[7:],
            mint()[:-4] + b"AAAA",
            mint(bytes(32)),
            mint(exp=int(NOW)),
            mint(exp=...),
            mint(nbf=int(NOW) + 9),
            mint(userId=...),
            mint(endpoints=[]),
            mint(endpoints=["https://other.example/v1/(.*)"]),
            good_token(),
        ],
    )
    def test_tokens_that_open_nothing(self, house: House, token: bytes) -> None:
        assert is_refused(house.nevermined(token))

    @pytest.mark.parametrize(
        "url",
        [
            "/v1/x",
            "api.example.com/v1/x",
            "ftp://api.example.com/v1/x",
            "wss://api.example.com/v1/x",
            "https://api.example.com/v2/x",
            "https://other.example/v1/x",
            "https://api.example.com:8443/v1/x",
            "https://api.example.com@other.example/v1/x",
            "https://api.example.com/v1/../v2/x",
            "https://api.example.com/v1/%2e%2e/x",
            "https://api.example.com/v1//x",
            "https://api.example.com/v1/x#y",
            "https://api.example.com/v1/a b",
            "https:///v1/x",
        ],
    )
    def test_urls_that_it_does_not_open(self, house: House, url: str) -> None:
        assert is_refused(house.nevermined(mint(), url))

    def test_without_a_url(self, house: House) -> None:
        assert is_refused(house.post({"Authorization": mint().decode()}))
        assert is_refused(house.post({}))

    def test_every_way_to_write_a_field(self, house: House) -> None:
        token = mint()[7:].decode()
        fields = {"AUTHORIZATION": f"bearer  {token}", "nvm-requested-url": URL}
        assert house.post(fields).status == 200
        fields = {"Authorization": f"Bearer {token}", "NVM_Requested_Url": URL}
        assert is_refused(house.post(fields))

    @pytest.mark.parametrize("name", ["Authorization", "NVM-Requested-Url"])
    def test_a_field_that_stands_there_twice(self, house: House, name: str) -> None:
        fields = [("Authorization", mint().decode()), ("NVM-Requested-Url", URL)]
        answer = house.post([*fields, (name, dict(fields)[name])])
        assert (answer.status, answer.document["reason"]) == (400, "malformed_introspection")

    def test_a_token_of_another_key(self) -> None:
        house = House(access_tokens(bytes(32)))
        assert house.nevermined(mint(bytes(32))).status == 200
        assert is_refused(house.nevermined(mint()))

    def test_checkers_of_other_kinds_have_no_say(self) -> None:
        """What they grant is not held to any URL."""
        house = House(NullChecker(), Saying(Grant(user="u")))
        assert is_refused(house.nevermined(b"Bearer tok"))
        house = House(NullChecker(), access_tokens())
        assert is_refused(house.nevermined(b""))
        assert house.nevermined(mint()).document["user_id"] == USER

    def test_long_tokens(self, house: House) -> None:
        patterns = [f"https://api.example.com/{'x' * 60}/{i}" for i in range(100)]
        token = mint(endpoints=[*patterns, CLAIMS["endpoints"][0]])
        assert len(token) > 8192
        assert house.nevermined(token).status == 200

    @pytest.mark.parametrize("more", [b"", b"token=x", b"POST /introspect HTTP/1.1\r\n\r\n"])
    @pytest.mark.parametrize(
        "length", ["Content-Length: 9", "Content-Length: 9999999999", "Transfer-Encoding: chunked"]
    )
    def test_a_body_is_not_waited_for(self, house: House, length: str, more: bytes) -> None:
        """An nginx says that there is one, its own client's, and does not send it."""
        lines = ["POST /introspect HTTP/1.1", f"NVM-Requested-Url: {URL}", "Host: x", length]
        lines += [f"Authorization: {mint().decode()}", "", ""]
        raw = house.send("\r\n".join(lines).encode() + more)
        assert Answer(raw).document["active"]
        assert Answer(raw).fields["connection"] == "close"
        assert house.channel.transport.disconnecting
        house.channel.dataReceived(more)
        assert house.channel.transport.value() == raw

    def test_without_a_body_the_connection_is_kept(self, house: House) -> None:
        assert "connection" not in house.nevermined(mint()).fields
        assert not house.channel.transport.disconnecting

    def test_it_does_not_say_who_is_wrong(self, house: House) -> None:
        with capturedLogs() as events:
            house.nevermined(mint())
            house.nevermined(mint(bytes(32)))
        assert list(events) == []


class TestPeers:
    """The answers hold the upstreams' credentials."""

    @pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
    def test_this_machine(self, house: House, peer: str) -> None:
        assert house.nevermined(mint(), peer=peer).status == 200

    @pytest.mark.parametrize("peer", ["192.0.2.1", "10.0.0.1", "::ffff:192.0.2.1", "fe80::1%eth0"])
    def test_others(self, house: House, peer: str) -> None:
        answer = house.nevermined(mint(), peer=peer)
        assert (answer.status, answer.document["reason"]) == (403, "not_a_caller")

    @pytest.mark.parametrize("peer", ["192.0.2.1", "::ffff:192.0.2.9", "2001:db8::1"])
    def test_others_that_are_trusted(self, peer: str) -> None:
        house = House(access_tokens(), trusted_peers=("192.0.2.0/24", "2001:db8::/32"))
        assert house.nevermined(mint(), peer=peer).status == 200
        assert house.nevermined(mint(), peer="198.51.100.1").status == 403

    def test_by_rfc_7662_it_is_the_credentials_that_count(self) -> None:
        house = House(Saying(Grant(user="u")))
        assert house.form(b"token=tok", peer="192.0.2.1").document["active"]


class TestOpenUrls:
    @pytest.fixture
    def http(self) -> FakeHttp:
        return FakeHttp()

    @pytest.fixture
    def house(self, http: FakeHttp) -> House:
        return House(access_tokens(metadata=MetadataClient("https://m.example", http)))

    def answered(self, house: House, http: FakeHttp, token: bytes = b"") -> Answer:
        """What is said of an open URL, once the marketplace has answered."""
        url = f"https://{DID_HOST}/open/x"
        main = {"webService": {"openEndpoints": ["https://open.example:8443/open/(.*)"]}}
        service = [{"type": "metadata", "attributes": {"main": main}}]
        with pytest.raises(AssertionError, match="nothing"):
            house.nevermined(token, url)
        http.answer(200, document(id=DID, service=service, proof={"creator": OWNER}))
        return Answer(house.channel.transport.value())

    @pytest.mark.parametrize("token", [b"", mint(exp=0), b"Bearer x", mint()])
    def test_they_need_no_token(self, house: House, http: FakeHttp, token: bytes) -> None:
        answer = self.answered(house, http, token)
        assert answer.status == 200
        assert answer.document == {
            "active": True,
            "user_id": "",
            "owner": OWNER,
            "auth_type": "none",
            "upstream_host": "open.example:8443",
            "scope": DID,
            "exp": "",
            "iat": "",
            "ercType": "",
            "service_token": "",
            "auth_header": "",
        }

    def test_others_do(self, house: House, http: FakeHttp) -> None:
        self.answered(house, http)
        assert is_refused(house.nevermined(url=f"https://{DID_HOST}/closed"))

    def test_an_outage_is_no_refusal(self, house: House, http: FakeHttp) -> None:
        with pytest.raises(AssertionError, match="nothing"):
            house.nevermined(url=f"https://{DID_HOST}/open/x")
        http.fail()
        answer = Answer(house.channel.transport.value())
        assert (answer.status, answer.document["reason"]) == (503, "metadata_unavailable")

    def test_who_does_not_wait(self, house: House, http: FakeHttp) -> None:
        with capturedLogs() as events:
            with pytest.raises(AssertionError, match="nothing"):
                house.nevermined(url=f"https://{DID_HOST}/open/x")
            house.channel.connectionLost()
            http.answer(404)
        assert list(events) == []


class TestOAuth:
    def test_a_usable_token(self) -> None:
        saying = Saying(
            Grant(user="alice", key_id="app", groups=frozenset("ba"), expires=NOW + 0.9)
        )
        answer = House(saying).oauth()
        assert answer.status == 200
        assert answer.fields["content-type"] == "application/json"
        assert answer.document == {
            "active": True,
            "sub": "alice",
            "username": "alice",
            "client_id": "app",
            "scope": "a b",
            "exp": int(NOW),
            "token_type": "Bearer",
        }

    def test_what_is_not_known_is_left_out(self) -> None:
        assert House(Saying(Grant(user="alice"))).oauth().document == {
            "active": True,
            "sub": "alice",
            "username": "alice",
            "token_type": "Bearer",
        }

    def test_a_group_does_not_become_two(self) -> None:
        groups = frozenset({"a admin", "", 'quo"te', "\u00e4", "read:x"})
        document = House(Saying(Grant(user="alice", groups=groups))).oauth().document
        assert document["scope"] == "read:x"

    @pytest.mark.parametrize("token", [good_token()[7:].decode(), mint()[7:].decode()])
    def test_every_kind_of_token(self, token: str, tmp_path: Any) -> None:
        file = tmp_path / "keys"
        file.write_text(KEYS)
        keys = ApiKeyChecker("keys", KeyFile(file), seconds=lambda: NOW)
        for house in (House(keys, access_tokens()), House(access_tokens(), keys)):
            document = house.oauth(token, token_type_hint="access_token").document
            assert document["active"]
            assert document["exp"] == int(NOW) + 60
            assert document["sub"] in ("001", USER)

    @pytest.mark.parametrize(
        "token",
        [
            "",
            " ",
            "x",
            "tok\r\nX-Admin: 1",
            "tok\n",
            "tok\0",
            "t\u00f6k",
            "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
            "x" * 60_000,
            mint(exp=0)[7:].decode(),
            good_token(-60)[7:].decode(),
            "a.b.c.d.e",
        ],
    )
    def test_unusable_tokens_are_just_inactive(self, token: str) -> None:
        saying = Saying(Grant(user="u"))
        answer = House(saying, access_tokens()).oauth(token)
        assert answer.status == 200
        assert answer.document == {"active": False}
        assert not saying.asked

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_denial_says_nothing_more(self, status: int) -> None:
        answer = House(Saying(Deny("revoked", "It was revoked.", status))).oauth()
        assert (answer.status, answer.document) == (200, {"active": False})

    def test_nobody_in_particular_is_nobody(self) -> None:
        assert House(NullChecker()).oauth().document == {"active": False}
        assert House(Saying(Grant())).oauth().document == {"active": False}

    def test_an_outage_is_not_inactive(self) -> None:
        answer = House(Saying(Unavailable("keys_away", "Not now."))).oauth()
        assert (answer.status, answer.document["reason"]) == (503, "keys_away")

    def test_a_checker_that_breaks(self) -> None:
        saying = Saying(Deferred())
        house = House(saying)
        with pytest.raises(AssertionError, match="nothing"):
            house.oauth()
        assert isinstance(saying.verdict, Deferred)
        with capturedLogs() as events:
            saying.verdict.errback(ValueError("s3cret"))
        answer = Answer(house.channel.transport.value())
        assert (answer.status, answer.document["reason"]) == (503, "checker_failed")
        assert "s3cret" not in f"{answer.body!r} {[event['log_format'] for event in events]}"

    def test_too_much_is_not_inactive(self) -> None:
        answer = House(Saying(Deny("resource_exhausted", "Slowly.", 429))).oauth()
        assert (answer.status, answer.document["reason"]) == (429, "resource_exhausted")

    def test_what_a_checker_sees(self) -> None:
        saying = Saying(Grant(user="u"))
        House(saying).oauth()
        (seen,) = saying.asked
        assert seen.presented == b"Bearer tok"
        assert seen.fields == ((b"authorization", b"Bearer tok"),)  # nothing of the caller's
        assert (seen.service, seen.client, seen.peer_trusted) == ("intro", "127.0.0.1", False)
        assert seen.certificate is None

    @pytest.mark.parametrize(
        "form",
        [
            b"",
            b"x=y",
            b"token_type_hint=access_token",
            b"token=tok&token=tok",
            b"token=tok" + b"&a=b" * 16,
            b"token=t\xc3\xb6k",
        ],
    )
    def test_malformed_questions(self, form: bytes) -> None:
        saying = Saying(Grant(user="u"))
        answer = House(saying).form(form)
        assert (answer.status, answer.document["reason"]) == (400, "malformed_introspection")
        assert not saying.asked

    def test_the_error_of_oauth(self) -> None:
        answer = House(Saying(Grant(user="u"))).oauth(None)
        assert answer.fields["content-type"] == "application/json"
        assert answer.document["error"] == "invalid_request"

    def test_a_body_that_is_too_large(self) -> None:
        raw = House(NullChecker()).send(
            b"POST /introspect HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n"
        )
        assert raw.startswith(b"HTTP/1.1 413 ")


class TestCallers:
    @pytest.mark.parametrize("caller", ["", "Bearer x", "Basic dTpw", "Bearer tok"])
    def test_who_is_none(self, caller: str) -> None:
        saying = Saying(Grant(user="u"))
        answer = House(saying).oauth(caller=caller)
        assert answer.status == 401
        assert answer.document["error"] == "invalid_client"
        assert answer.fields["www-authenticate"].startswith('bearer realm="gatekeeper"')
        assert not saying.asked

    def test_every_challenge_is_sent(self) -> None:
        basic = Saying(ABSTAIN)
        basic.challenges = (b'Basic realm="x"',)
        house = House(NullChecker(), callers=(Saying(ABSTAIN), basic))
        raw = house.send(
            b"POST /introspect HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\ntoken=t"
        )
        assert raw.lower().count(b"www-authenticate: ") == 2

    def test_without_any_nobody_may_ask(self) -> None:
        saying = Saying(Grant(user="u"))
        answer = House(saying, callers=()).oauth()
        assert (answer.status, answer.document["reason"]) == (403, "not_a_caller")
        assert not saying.asked

    def test_everybody_is_not_enough(self) -> None:
        saying = Saying(Grant(user="u"))
        answer = House(saying, callers=(NullChecker(),)).oauth()
        assert (answer.status, answer.document["reason"]) == (403, "not_a_caller")
        assert not saying.asked

    @pytest.mark.parametrize(
        ("verdict", "status"),
        [
            (Deny("permission_denied", "No.", 403), 403),
            (Deny("resource_exhausted", "Slowly.", 429), 429),
            (Unavailable("auth_server_away", "Not now."), 503),
        ],
    )
    def test_what_else_their_checkers_say(self, verdict: Deny | Unavailable, status: int) -> None:
        house = House(NullChecker(), callers=(Saying(verdict, b"me"),))
        answer = house.oauth(caller="Bearer me")
        assert (answer.status, answer.document["reason"]) == (status, verdict.reason)

    def test_their_checkers_see_their_request(self) -> None:
        caller = Saying(Grant(user="nginx"), b"me")
        assert House(NullChecker(), callers=(caller,)).oauth(caller="Bearer me").status == 200
        assert (b"authorization", b"Bearer me") in caller.asked[0].fields

    def test_two_credentials(self) -> None:
        fields = [("Authorization", CALLER), ("Authorization", "Bearer x")]
        content_type = ("Content-Type", "application/x-www-form-urlencoded")
        answer = House(NullChecker()).post([*fields, content_type], b"token=tok")
        assert (answer.status, answer.document["reason"]) == (400, "malformed_introspection")

    def test_their_tokens_are_not_what_they_ask_about(self) -> None:
        """A caller that passes on its client's fields is not answered about itself."""
        fields = {
            "NVM-Requested-Url": URL,
            "Content-Type": "application/x-www-form-urlencoded",
        }
        callers = (access_tokens(bytes(32)),)
        fields["Authorization"] = mint(bytes(32)).decode()
        assert is_refused(House(access_tokens(), callers=callers).post(fields, b"token=tok"))


class TestRest:
    @pytest.mark.parametrize(
        "path", ["/", "/introspect/", "/introspect/x", "/healthz", "/Introspect"]
    )
    def test_nothing_there(self, house: House, path: str) -> None:
        answer = house.nevermined(mint(), path=path)
        assert (answer.status, answer.document["reason"]) == (404, "not_found")

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
    def test_another_method(self, house: House, method: str) -> None:
        answer = house.nevermined(mint(), method=method)
        assert (answer.status, answer.document["reason"]) == (405, "method_not_allowed")
        assert answer.fields["allow"] == "post"

    @pytest.mark.parametrize("length", ["9" * 5000, "9" * 2000, "+1", "-1", "0x1"])
    def test_a_length_that_is_none(self, house: House, length: str) -> None:
        head = f"POST /introspect HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
        with capturedLogs() as events:
            raw = house.send(head.encode())
        assert raw.startswith(b"HTTP/1.1 400 ")
        assert list(events) == []

    def test_an_error_of_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(_: object) -> Deferred[Verdict]:
            raise ValueError("s3cret")

        monkeypatch.setattr("gatekeeper.management.oauth_dialect.describe", broken)
        with capturedLogs() as events:
            answer = House(Saying(Grant(user="u"))).oauth()
        assert (answer.status, answer.document["reason"]) == (500, "internal_error")
        assert "s3cret" not in f"{answer.body!r} {events!r}"
        assert len(events) == 1


class TestService:
    @pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
    async def test_real_sockets(self) -> None:
        listener = Listener(
            name="intro", role="introspection", bind="127.0.0.1:0", checkers=("nvm",)
        )
        service = IntrospectionService(
            listening_socket(listener.bind, "bind"),
            listener,
            {"nvm": access_tokens()},
            VerdictCache(9, 300, 5, wall=lambda: NOW),
        )
        host, port = service.address
        service.startService()
        try:
            answer = await treq.post(
                f"http://{host}:{port}/introspect",
                headers=Headers({b"Authorization": [mint()], b"NVM-Requested-Url": [URL.encode()]}),
                persistent=False,
            )
            assert answer.code == 200
            assert (await answer.json())["user_id"] == USER
        finally:
            await service.stopService()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, port), timeout=30)

    def test_importing_it_leaves_the_choice_of_a_reactor(self) -> None:
        script = (
            "import sys, gatekeeper.management.introspection_service;"
            "sys.exit('twisted.internet.reactor' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
