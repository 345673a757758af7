from __future__ import annotations

import re

import pytest
from pydantic import BaseModel, SecretStr

from gatekeeper.auth.registry import checker_types
from gatekeeper.config.checkers import CheckerTable
from gatekeeper.config.model import Store
from gatekeeper.config.model_listeners import Listener
from gatekeeper.management.redaction import redact, redact_checker

MODELS = checker_types().models


class Settings(BaseModel):
    secret: SecretStr = SecretStr("hunter2")
    shown: str = "shown"


def test_secrets() -> None:
    assert redact(Settings()) == {"secret": "***", "shown": "shown"}
    table = redact(CheckerTable("introspection", Settings()))
    assert table == {"type": "introspection", "secret": "***", "shown": "shown"}
    assert redact(Store(url="postgresql://me:hunter2@db/x"))["url"] == "***"


def test_users_are_shown_and_their_hashes_not() -> None:
    users = {"alice": "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$" + "A" * 43}
    assert redact(MODELS["basic"](users=users))["users"] == {"alice": "***"}


@pytest.mark.parametrize(
    ("entry", "shown"), [("users", "users"), ("secret://hunter2?user_id=x", "secret://***")]
)
def test_checkers(entry: str, shown: str) -> None:
    assert redact_checker(entry) == shown
    listener = Listener(name="a", role="forward", bind="127.0.0.1:1", checkers=(entry,))
    assert redact(listener)["checkers"] == [shown]


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_whatever_may_be_a_secret_is_marked(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        if re.search(r"(^|_)(secret|token|password|passphrase)$", name):
            assert "SecretStr" in str(field.annotation) or not field.repr, name
