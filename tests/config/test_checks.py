from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.config.minimal import Configure, Problems

PUBLIC = 'name = "public"'
SERVICE = """
[[services]]
name = "{name}"
from = "{prefix}"
to = "http://127.0.0.1:10000"
checkers = ["users"]
"""


def service(name: str, prefix: str = "/other", **keys: str) -> str:
    lines = [f"{key} = {value}" for key, value in keys.items()]
    return SERVICE.format(name=name, prefix=prefix) + "\n".join(lines)


def listener(name: str, role: str = "gateway", **keys: str) -> str:
    lines = [f"{key} = {value}" for key, value in {"bind": '"127.0.0.1:0"', **keys}.items()]
    return "\n".join([f'\n[[listeners]]\nname = "{name}"\nrole = "{role}"', *lines])


def test_names_are_unique(problems: Problems) -> None:
    assert problems(service("acme") + listener("public") + listener("acme")) == [
        ("listeners[2].name", "`public` is the name of listeners[0] already"),
        ("services[1].name", "`acme` is the name of services[0] already"),
    ]


@pytest.mark.parametrize(
    ("added", "path", "earlier"),
    [
        (listener("a", bind='"127.0.0.1:8443"'), "listeners[2].bind", "listeners[0].bind"),
        (listener("a", bind='"localhost:8443"'), "listeners[2].bind", "listeners[0].bind"),
        ('[management]\nbind = "127.0.0.1:3128"', "management.bind", "listeners[1].bind"),
        ('[demo]\norigin = "127.0.0.1:6668"', "demo.origin", "management.bind"),
    ],
)
def test_addresses_are_unique(problems: Problems, added: str, path: str, earlier: str) -> None:
    ((found, message),) = problems(added)
    assert found == path
    assert message.endswith(f"is the address of `{earlier}` already")


def test_spellings_of_one_address(problems: Problems) -> None:
    added = listener("a", bind='"[::1]:1"') + listener("b", bind='"[0:0:0:0:0:0:0:1]:1"')
    assert [path for path, _ in problems(added)] == ["listeners[3].bind"]


def test_port_0_is_another_one_each_time(configure: Configure) -> None:
    assert len(configure(listener("a") + listener("b")).listeners) == 4


def test_no_management(configure: Configure) -> None:
    settings = configure('[management]\nbind = "none"\nauth = "none"')
    assert settings.management.bind == "none"


@pytest.mark.parametrize(
    ("key", "roles"),
    [
        ('checkers = ["users"]', '"forward" or "introspection"'),
        ('callers = ["users"]', '"introspection"'),
        ('allow = ["*:80"]', '"forward"'),
        ('credentials_from = ["authorization"]', '"forward"'),
    ],
)
def test_keys_of_another_role_on_a_gateway(problems: Problems, key: str, roles: str) -> None:
    path = f"listeners[0].{key.partition(' ')[0]}"
    expected = (path, f"belongs to a listener with role = {roles}")
    assert problems(edit={PUBLIC: f"{PUBLIC}\n{key}"}) == [expected]


def test_a_forward_listener_needs_checkers(problems: Problems) -> None:
    assert problems(listener("a", "forward")) == [
        ("listeners[2].checkers", 'is required where role = "forward"')
    ]


def test_a_forward_listener_for_everybody(configure: Configure) -> None:
    assert configure(listener("a", "forward", checkers="[]")).listeners[2].checkers == ()


@pytest.mark.parametrize("role", ["gateway", "forward", "indoor"])
def test_where_a_listener_listens_must_be_said(problems: Problems, role: str) -> None:
    added = f'[[listeners]]\nname = "a"\nrole = "{role}"\n' + (
        "checkers = []" if role == "forward" else ""
    )
    assert ("listeners[2].bind", "is required") in problems(added)


INTROSPECTION = '[[listeners]]\nname = "i"\nrole = "introspection"\n'


class TestIntrospection:
    def test_by_default(self, configure: Configure) -> None:
        listener = configure(INTROSPECTION + 'checkers = ["users"]').listeners[2]
        assert (listener.bind, listener.callers) == ("127.0.0.1:4000", None)

    def test_one_that_has_all(self, configure: Configure) -> None:
        added = 'checkers = ["null://"]\ncallers = ["users", "secret://x"]\ntrusted_peers = ["::1"]'
        assert configure(INTROSPECTION + added).listeners[2].callers == ("users", "secret://x")

    def test_a_token_does_not_make_a_caller(self, problems: Problems) -> None:
        added = 'checkers = ["users"]\ncallers = ["secret://x", "users"]'
        message = "is in `checkers` already; who may ask needs a checker of their own"
        assert problems(INTROSPECTION + added) == [("listeners[2].callers[1]", message)]

    def test_its_address_is_one_like_others(self, problems: Problems) -> None:
        added = INTROSPECTION + 'checkers = ["users"]\n' + listener("a", bind='"127.0.0.1:4000"')
        ((path, message),) = problems(added)
        assert path == "listeners[3].bind"
        assert message.endswith("is the address of `listeners[2].bind` already")

    @pytest.mark.parametrize(
        ("key", "roles"),
        [
            ('allow = ["*:80"]', '"forward"'),
            ('credentials_from = ["authorization"]', '"forward"'),
            ("tls = { self_signed = true }", '"gateway" or "forward"'),
        ],
    )
    def test_keys_of_others(self, problems: Problems, key: str, roles: str) -> None:
        path = f"listeners[2].{key.partition(' ')[0]}"
        expected = (path, f"belongs to a listener with role = {roles}")
        assert problems(f'{INTROSPECTION}checkers = ["users"]\n{key}') == [expected]

    def test_it_needs_checkers(self, problems: Problems) -> None:
        expected = ("listeners[2].checkers", 'is required where role = "introspection"')
        assert problems(INTROSPECTION) == [expected]

    def test_it_is_never_open(self, problems: Problems) -> None:
        assert problems(INTROSPECTION + "checkers = []\ncallers = []") == [
            ("listeners[2].checkers", "must name a checker that knows the tokens"),
            (
                "listeners[2].callers",
                "must name a checker; where it is left out, nobody may ask by RFC 7662",
            ),
        ]

    def test_checkers_that_are_not_there(self, problems: Problems) -> None:
        added = 'checkers = ["null://", "a"]\ncallers = ["b", "users", "secret://"]'
        assert problems(INTROSPECTION + added) == [
            ("listeners[2].checkers[1]", "there is no table `checkers.a`"),
            ("listeners[2].callers[0]", "there is no table `checkers.b`"),
            ("listeners[2].callers[2]", "secret:// has no value"),
            ("listeners[2].callers[2].query", "bad"),
        ]

    def test_services_are_not_found_there(self, problems: Problems) -> None:
        added = 'listeners = ["public", "i"]\n' + INTROSPECTION + 'checkers = ["users"]'
        assert problems(added) == [("services[0].listeners[1]", "`i` is not a gateway")]


def test_listeners_of_a_service(problems: Problems) -> None:
    assert problems('listeners = ["public", "pubic", "proxy"]') == [
        ("services[0].listeners[1]", "no listener is called `pubic`; did you mean `public`?"),
        ("services[0].listeners[2]", "`proxy` is not a gateway"),
    ]


def test_a_listener_without_a_name_may_be_the_one_that_is_meant(problems: Problems) -> None:
    assert problems('listeners = ["public"]', edit={PUBLIC: ""}) == [
        ("listeners[0].name", "is required")
    ]


def test_unknown_checkers(problems: Problems) -> None:
    found = problems(
        service(
            "other", checkers='["users", "user", "nowhere", "a b", "secret://x", "TRUST://"]'
        ).replace('checkers = ["users"]\n', ""),
        edit={
            '3128"\ncheckers = ["users"]': '3128"\ncheckers = ["x"]',
        },
    )
    scheme = "no checker has a URL of this scheme; known: `null://`, `secret://`, `trust://`"
    assert found == [
        ("listeners[1].checkers[0]", "there is no table `checkers.x`"),
        ("services[1].checkers[1]", "there is no table `checkers.user`; did you mean `users`?"),
        ("services[1].checkers[2]", "there is no table `checkers.nowhere`"),
        ("services[1].checkers[3]", "must be the name of a checker or a URL such as `trust://`"),
        ("services[1].checkers[5]", scheme),
    ]


def test_a_checker_whose_table_is_wrong_is_known(problems: Problems) -> None:
    assert problems(edit={'type = "basic"': 'type = "basic"\nx = 1'}) == [
        ("checkers.users.x", "unknown key")
    ]


def test_what_a_plugin_says_of_its_url(problems: Problems) -> None:
    assert problems(
        edit={
            '/acme"\nto': '/acme"\nopen_methods = []\nto',
            "[[services]]": ""
            "[[services]]\nname = 'a'\nto = 'http://a'\ncheckers = ['secret://']\n[[services]]",
        }
    ) == [
        ("services[0].checkers[0]", "secret:// has no value"),
        ("services[0].checkers[0].query", "bad"),
    ]


def test_trust_needs_trusted_peers(problems: Problems) -> None:
    found = problems(
        service("b", "/b").replace('"users"', '"users", "trust://?allowed=a"')
        + service("c", "/c", listeners='["inner"]').replace('"users"', '"trust://"')
        + listener("inner", trusted_peers='["10.0.0.0/8"]')
        + listener("forward", "forward", checkers='["trust://"]')
        + listener("chained", "forward", checkers='["trust://"]', trusted_peers='["10.0.0.1"]'),
    )
    assert found == [
        ("listeners[3].checkers[0]", "`trust://` needs `trusted_peers`"),
        (
            "services[1].checkers[1]",
            "`trust://` needs `trusted_peers` in listeners[0] (`public`)",
        ),
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({"hosts": '["a", "b"]'}, {"hosts": '["B", "c"]'}),
        ({"hosts": '["*.a"]'}, {"hosts": '["*.a"]'}),
        ({"listeners": '["public"]'}, {}),
        ({}, {"listeners": '["public"]'}),
        ({"listeners": '["public", "inner"]'}, {"listeners": '["inner"]'}),
    ],
)
def test_services_in_conflict(
    problems: Problems, first: dict[str, str], second: dict[str, str]
) -> None:
    added = service("a", "/x", **first) + service("b", "/x", **second) + listener("inner")
    assert problems(added) == [
        (
            "services[2].from",
            "services[1] has the same `from` for the same host on the same listener",
        )
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"hosts": '["a"]'}, {}),
        ({"hosts": '["a"]'}, {"hosts": '["b"]'}),
        ({"hosts": '["*.a"]'}, {"hosts": '["a"]'}),
        ({"listeners": '["public"]'}, {"listeners": '["inner"]'}),
    ],
)
def test_services_that_go_together(
    configure: Configure, first: dict[str, str], second: dict[str, str]
) -> None:
    added = service("a", "/x", **first) + service("b", "/x", **second) + listener("inner")
    assert len(configure(added).services) == 3


def test_prefixes_of_each_other_go_together(configure: Configure) -> None:
    assert len(configure(service("a", "/acme/x") + service("b", "/")).services) == 3


def test_services_without_a_gateway_conflict_too(problems: Problems) -> None:
    found = problems(
        service("b", "/acme"),
        edit={'role = "gateway"': 'role = "forward"\ncheckers = []'},
    )
    assert [path for path, _ in found] == ["services[1].from"]


def test_a_wrong_prefix_is_in_no_conflict(problems: Problems) -> None:
    assert [path for path, _ in problems(service("a", "x") + service("b", "x"))] == [
        "services[1].from",
        "services[2].from",
    ]


@pytest.mark.parametrize("bind", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"])
def test_an_open_management_api_is_for_this_machine_only(problems: Problems, bind: str) -> None:
    assert problems(f'[management]\nauth = "none"\nbind = "{bind}"') == [
        (
            "management.auth",
            "`none` is for a loopback address only; change it, or `management.bind`",
        )
    ]


@pytest.mark.parametrize("bind", ["127.0.0.1:1", "[::1]:1", "localhost:1"])
def test_an_open_management_api(configure: Configure, bind: str) -> None:
    settings = configure(f'[management]\nauth = "none"\nbind = "{bind}"')
    assert settings.management.auth == "none"


def test_the_demo_user_needs_a_basic_checker(problems: Problems) -> None:
    keys = '[checkers.keys]\ntype = "api-key"\nfile = "keys"\n'
    assert problems('[demo]\nusers = "nobody"') == [
        ("demo.users", "there is no table `checkers.nobody`")
    ]
    assert problems(f'{keys}[demo]\nusers = "keys"') == [
        ("demo.users", '`keys` is not a checker with type = "basic"')
    ]


def test_the_demo_makes_its_key_file(configure: Configure, tmp_path: Path) -> None:
    demo = configure("[demo]").demo
    assert demo is not None
    assert not demo.keys_file.exists()


def test_an_actions_file_is_all_the_rules_there_are(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "api.properties").touch()
    file = '"api.properties"'
    both = service("both", "/both", actions_file=file, access='[{ path = "/both/**" }]')
    public = service("public", "/public", actions_file=file).replace('["users"]', "[]")
    assert problems(both + public) == [
        ("services[1].actions_file", "takes the place of `access`; keep one of them"),
        ("services[2].actions_file", "needs `checkers`: without them nobody is in a group"),
    ]


def test_an_actions_file_must_be_readable(problems: Problems, tmp_path: Path) -> None:
    message = f"`{tmp_path}/missing` cannot be read: No such file or directory"
    assert problems(service("node", actions_file='"missing"')) == [
        ("services[1].actions_file", message)
    ]


def test_an_actions_file(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "api.properties").touch()
    settings = configure(service("node", actions_file='"api.properties"'))
    assert settings.services[1].actions_file == tmp_path / "api.properties"


def test_http2(configure: Configure, problems: Problems) -> None:
    settings = configure(service("grpc", "/grpc", http2='"always"'))
    assert settings.listeners[0].http2
    assert [each.http2 for each in settings.services] == ["never", "always"]
    nowhere = re.sub('to = ".*"', 'to = "grant"', service("any", "/any", http2='"always"'))
    proxy = listener("other", "forward", http2="true", checkers='["users"]')
    assert [path for path, _ in problems(proxy + nowhere)] == [
        "listeners[2].http2",
        "services[1].http2",
    ]
