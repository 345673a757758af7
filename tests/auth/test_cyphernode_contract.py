"""What cyphernode's users rely on, through a real daemon, with the tools that they use."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.auth.support import KEY, KEYS, OTHER_KEY
from tests.auth.test_api_key_legacy import SHELL_CLIENT, STANDARD_CLIENT, one_liner
from tests.daemon import Daemon, wait_until
from tests.origin import Origin

pytestmark = pytest.mark.usefixtures("unmeasured")

CONFIGURATION = """
state_dir = "state"
management = { bind = "@management@" }

[[listeners]]
name = "gateway"
role = "gateway"
bind = "@gateway@"
tls = { self_signed = true }

[[listeners]]
name = "proxy"
role = "forward"
bind = "@proxy@"
checkers = ["keys"]
allow = ["@origin@"]

[checkers.keys]
type = "api-key"
file = "keys.properties"
legacy = true
compat_status = "cyphernode"

[checkers.strict]
type = "api-key"
file = "keys.properties"

[[services]]
name = "node"
to = "http://@origin@"
checkers = ["keys"]
actions_file = "api.properties"

[[services]]
name = "strict"
from = "/strict"
to = "http://@origin@"
checkers = ["strict"]
actions_file = "api.properties"
"""

ACTIONS = """# Stats can:
action_getblockhash=stats
action_spend=spender
# Should be called from inside the Docker network only:
action_executecallbacks=internal
"""

LEGACY = one_liner("echo", "echo -n")
EXPIRED = LEGACY.replace("+10", "-10")


@dataclass
class House:
    daemon: Daemon
    origin: Origin
    directory: Path

    def curl(
        self, path: str, script: str = "", key_id: str = "003", key: str = OTHER_KEY, *more: str
    ) -> int:
        """The status of a request with the token that a script makes; without one, with none."""
        script = script.replace("@id@", key_id).replace("@key@", key)
        url = f"https://127.0.0.1:{self.daemon.port('gateway')}{path}"
        header = '-H "Authorization: Bearer $token" ' if script else ""
        options = " ".join(more)
        command = f"{script}\ncurl -sk -o /dev/null -w '%{{http_code}}' {header}{options} {url}"
        done = subprocess.run(["sh", "-c", command], capture_output=True, check=True, text=True)
        return int(done.stdout)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    assert shutil.which("curl"), "curl is needed"
    directory = tmp_path_factory.mktemp("cyphernode")
    (directory / "keys.properties").write_text(KEYS)
    (directory / "api.properties").write_text(ACTIONS)
    with Origin() as origin:
        daemon = Daemon(directory, CONFIGURATION, ports={"origin": origin.port})
        with daemon:
            yield House(daemon, origin, directory)
        assert {row["user"] for row in daemon.usage()} == {"001", "003"}
        assert OTHER_KEY not in daemon.log
        assert KEY not in daemon.log


@pytest.fixture
def house(running: House) -> Iterator[House]:
    running.origin.requests.clear()
    yield running
    running.daemon.check_log()


@pytest.mark.parametrize(
    "script",
    [
        LEGACY,
        one_liner("echo", "echo"),
        one_liner("echo -n", "echo -n"),
        one_liner("echo -n", "echo"),
        SHELL_CLIENT,
        STANDARD_CLIENT,
    ],
    ids=["contract", "published", "echo-n", "echo-n-newline", "client", "standard"],
)
def test_the_one_liners_get_a_200(house: House, script: str) -> None:
    assert house.curl("/v0/getblockhash/123", script) == 200
    assert [request.target for request in house.origin.requests] == ["/getblockhash/123"]
    assert house.curl("/strict/v0/getblockhash", script) == (
        200 if script == STANDARD_CLIENT else 401
    )


def test_through_the_forward_proxy(house: House) -> None:
    script = LEGACY.replace("@id@", "001").replace("@key@", KEY)
    command = (
        f"{script} curl -s -o /dev/null -w '%{{http_code}}' "
        f"-x http://127.0.0.1:{house.daemon.port('proxy')} "
        f'--proxy-header "Proxy-Authorization: Bearer $token" {house.origin.url}/x'
    )
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=True, text=True)
    assert done.stdout == "200"


def test_groups(house: House) -> None:
    assert house.curl("/v0/spend", LEGACY) == 200
    assert house.curl("/v0/spend", LEGACY, "003", OTHER_KEY, "-d", "{}") == 200
    assert house.curl("/s/stats/page", LEGACY) == 200
    assert house.curl("/v0/getblockhash", LEGACY, "001", KEY) == 403
    seen = ["/spend", "/spend", "/s/stats/page"]
    for path in ("/v0/executecallbacks", "/s/internal", "/s/spend", "/v0/unknown", "/spend", "/"):
        assert house.curl(path, LEGACY) == 403
    assert [request.target for request in house.origin.requests] == seen


@pytest.mark.parametrize(
    ("script", "key_id", "key", "old", "ours"),
    [
        ("", "", "", 403, 401),
        ("token=nonsense", "", "", 401, 401),
        ("token=a.b.c", "", "", 401, 401),
        (STANDARD_CLIENT, "002", KEY, 401, 401),
        (STANDARD_CLIENT, "003", KEY, 401, 401),
        (STANDARD_CLIENT.replace("+ 10", "- 10"), "003", OTHER_KEY, 403, 401),
        (STANDARD_CLIENT.replace('"HS256"', '"none"'), "003", OTHER_KEY, 401, 401),
        (STANDARD_CLIENT, "001", KEY, 403, 403),
    ],
)
def test_statuses(house: House, script: str, key_id: str, key: str, old: int, ours: int) -> None:
    assert house.curl("/v0/spend", script, key_id, key) == old
    assert house.curl("/strict/v0/spend", script, key_id, key) == ours
    assert house.origin.requests == []


def test_expired_in_the_old_encoding(house: House) -> None:
    assert house.curl("/v0/spend", EXPIRED) == 403


def test_a_line_that_base64_has_broken_is_no_field(house: House) -> None:
    """curl sends the newline as it is: that is no HTTP, whoever may have signed it."""
    assert house.curl("/v0/spend", LEGACY, "0123456789" * 5, KEY, "--http1.1") == 400
    assert house.origin.requests == []


def test_both_files_are_read_again(house: House) -> None:
    keys, actions = house.directory / "keys.properties", house.directory / "api.properties"
    assert house.curl("/v0/getbalance", LEGACY, "001", KEY) == 403
    try:
        actions.write_text(ACTIONS + "action_getbalance=stats\n")
        wait_until(lambda: house.curl("/v0/getbalance", LEGACY) == 200, "the action is there")
        assert house.curl("/v0/getbalance", LEGACY, "001", KEY) == 403
        group = f'kapi_id="001";kapi_key="{KEY}";kapi_groups="stats";eval x=${{kapi_id}}\n'
        keys.write_text(KEYS.replace(f"key001={KEY}\n", group))
        wait_until(
            lambda: house.curl("/v0/getbalance", LEGACY, "001", KEY) == 200, "it is in the group"
        )

        # Broken files keep the old content.
        actions.write_text("action_getbalance=stats\nnonsense\n")
        keys.write_text("nonsense\n")
        wait_until(lambda: house.daemon.log.count("stays in force") >= 2, "both are found broken")
        assert house.curl("/v0/getbalance", LEGACY, "001", KEY) == 200
        assert house.curl("/v0/spend", LEGACY) == 200
    finally:
        keys.write_text(KEYS)
        actions.write_text(ACTIONS)
    wait_until(lambda: house.curl("/v0/getbalance", LEGACY) == 403, "all is as before")


def test_a_file_with_mistakes_is_told_by_the_check(house: House, tmp_path: Path) -> None:
    for name, text in (("keys.properties", KEYS), ("api.properties", "a\nb\n")):
        (tmp_path / name).write_text(text)
    daemon = Daemon(tmp_path, CONFIGURATION, ports={"origin": house.origin.port})
    status, said = daemon.refuse_to_start()
    assert status != 0
    for number in (0, 1):
        for line in (1, 2):
            assert f"services[{number}].actions_file: {tmp_path}/api.properties:{line}:" in said
    checked = subprocess.run(
        [sys.executable, "-m", "gatekeeper", "check-config", str(daemon.config_file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode != 0
    assert f"services[1].actions_file: {tmp_path}/api.properties:2:" in checked.stderr
