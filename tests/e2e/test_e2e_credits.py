"""Credits that an operator grants at the command line, and that a caller spends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import PATIENCE, ROOT, Daemon
from tests.e2e.plain import PLAIN, USER, curl
from tests.origin import Conversation, Origin

pytestmark = pytest.mark.usefixtures("unmeasured")

# Nothing is read again by itself, and nothing gets into the store by itself.
PREPAID = (
    PLAIN.replace("flush_interval = 0.2", "flush_interval = 3600.0, records = true").replace(
        'from = "/echo"',
        'from = "/echo"\ncredits = { source = "prepaid", pool = "echoes", amount = 2 }',
    )
    + "\n[credits]\nbalance_ttl = 3600.0\n"
)


CONTRACT, HOLDER, TOKEN = "0x" + "c0" * 20, "0x" + "A1" * 20, "0x" + "0d" * 32


def node(conversation: Conversation) -> None:
    """A chain's node: everybody has 2**80 credits of everything."""
    question = json.loads(b"".join(conversation.read_body()))
    questions = question if isinstance(question, list) else [question]
    words = "".join(f"{each:064x}" for each in (32, 1, 2**80))
    results = {"eth_chainId": "0x7", "eth_call": "0x" + words}
    answers = [{"jsonrpc": "2.0", "id": q["id"], "result": results[q["method"]]} for q in questions]
    conversation.answer(answers if isinstance(question, list) else answers[0])


def gatekeeper(daemon: Daemon, *arguments: str, status: int = 0) -> Any:
    """Run a command against a daemon: the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "gatekeeper", *arguments, "--config", str(daemon.config_file)],
        cwd=ROOT,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def test_credits_are_granted_spent_and_granted_again(tmp_path: Path, origin: Origin) -> None:
    daemon = Daemon(tmp_path, PREPAID, ports={"origin": origin.port})
    url = daemon.url("gateway", "/echo/x")

    def balance() -> tuple[int, int, int]:
        (account,) = gatekeeper(daemon, "credits", "balance", "alice")
        assert (account["pool"], account["user"]) == ("echoes", "alice")
        return account["granted"], account["spent"], account["left"]

    def grant(credits: int) -> Any:
        return gatekeeper(daemon, "credits", "grant", "alice", str(credits), "--pool", "echoes")

    def refused(available: int) -> None:
        answered = curl(url, "-u", USER)
        assert answered.status == 402
        document = json.loads(answered.body)
        wanted = {"status": 402, "reason": "insufficient_credits", "pool": "echoes"}
        numbers = {"required": 2, "available": available}
        assert document.items() >= {**wanted, **numbers}.items()

    with daemon:
        refused(0)
        assert grant(5)["left"] == 5
        assert [curl(url, "-u", USER).status for _ in range(2)] == [200, 200]
        refused(1)
        assert balance() == (5, 4, 1)
        assert grant(1)["left"] == 2
        assert curl(url, "-u", USER).status == 200
        refused(0)
        assert grant(4)["left"] == 4
        assert grant(-4)["left"] == 0
        refused(0)
        assert balance() == (6, 6, 0)
        log = gatekeeper(daemon, "credits", "ledger", "prepaid/echoes/alice")
        assert [each["detail"]["credits"] for each in log] == [-4, 4, 1, 5]
        audit = gatekeeper(daemon, "audit")
        assert {each["action"] for each in audit} == {"credits.grant"}

    with daemon:
        assert balance() == (6, 6, 0)
        refused(0)
        assert grant(2)["left"] == 2
        assert curl(url, "-u", USER).status == 200
        assert gatekeeper(daemon, "credits", "pending") == []

    spent = {"source": "prepaid", "name": "echoes", "holder": "alice", "amount": 2}
    records = daemon.usage("--records")
    assert [record["spent"] for record in records] == [[spent]] * 4


def test_balances_on_a_chain(tmp_path: Path, origin: Origin) -> None:
    origin.on["/node"] = node
    chain = f"\n[credits]\nrpc_url = '{origin.url}/node'\nchain_id = 7\n"
    daemon = Daemon(tmp_path, PLAIN + chain, ports={"origin": origin.port})
    command = ("credits", "balance", HOLDER, "--contract", CONTRACT, "--token", TOKEN)
    with daemon:
        (found,) = gatekeeper(daemon, *command)
        assert (found["contract"], found["token"]) == (CONTRACT, TOKEN)
        assert found["holder"] == HOLDER.lower()
        assert (found["balance"], found["owed"], found["left"]) == (2**80, 0, 2**80)
        assert gatekeeper(daemon, "credits", "balance", HOLDER) == []

        origin.on["/node"] = Conversation.reset
        (found,) = gatekeeper(daemon, *command, status=1)
        assert found["balance"] is None
        assert "the chain's node" in found["problem"]
