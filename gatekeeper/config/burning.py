"""What must be right before credits can be burned: a key, and a chain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from gatekeeper.config.drafts import Draft, sound
from gatekeeper.config.files import unreadable
from gatekeeper.config.model_credits import Burner, Credits
from gatekeeper.errors import Problem

_KEY: Final = ("keyfile", "keyfile_password", "mnemonic")


def burner_problems(
    burner: Iterable[Draft[Burner]], credits: Iterable[Draft[Credits]]
) -> Iterator[Problem]:
    """What is wrong with these tables, of which there is one each.

    Who does not burn need not have a key, nor be able to read it.
    """
    burner = list(burner)
    for path, table in sound(burner, "max_fee_gwei", "max_priority_gwei"):
        if table.max_priority_gwei > table.max_fee_gwei:
            yield Problem(f"{path}.max_priority_gwei", "must not be more than `max_fee_gwei`")
    for path, table in sound(burner, "enabled", *_KEY):
        if table.enabled:
            yield from _key_problems(path, table)
    for _, table in sound(burner, "enabled"):
        for path, chain in sound(credits, "rpc_url", "chain_id") if table.enabled else ():
            for key in ("rpc_url", "chain_id"):
                if getattr(chain, key) is None:
                    yield Problem(f"{path}.{key}", "is required to burn credits")


def _key_problems(path: str, burner: Burner) -> Iterator[Problem]:
    if burner.keyfile is None and burner.mnemonic is None:
        yield Problem(path, "needs a key to burn with: `keyfile` or `mnemonic`")
    elif burner.keyfile is not None and burner.mnemonic is not None:
        yield Problem(f"{path}.mnemonic", "takes the place of `keyfile`; keep one of them")
    elif burner.keyfile is not None:
        yield from unreadable(f"{path}.keyfile", burner.keyfile)
        if burner.keyfile_password is None:
            yield Problem(f"{path}.keyfile_password", "is required beside `keyfile`")
    if burner.keyfile is None and burner.keyfile_password is not None:
        yield Problem(f"{path}.keyfile_password", "belongs beside `keyfile`")
