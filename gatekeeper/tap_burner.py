"""``twistd gatekeeper-burner``: its options, and what it is made of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from twisted.application.service import IService

from gatekeeper import tap
from gatekeeper.config.model import Settings
from gatekeeper.errors import ConfigurationError
from gatekeeper.importing.nevermined_burner import complete


class Options(tap.Options):
    """The command line of ``twistd gatekeeper-burner``."""

    synopsis = "[twistd options] gatekeeper-burner --config FILE"


def makeService(options: Options) -> IService:
    """The burner, its port bound already.

    :raises SystemExit: with what is wrong in the configuration, or a port that is taken.
    """
    from twisted.internet import reactor

    from gatekeeper.burner_daemon import BurnerDaemon

    try:
        settings, taken = load_settings(options["config"])
        return BurnerDaemon(settings, reactor, taken)
    except ConfigurationError as error:
        tap.fail(str(error))


def load_settings(
    path: str, environ: Mapping[str, str] = os.environ
) -> tuple[Settings, tuple[str, ...]]:
    """The configuration, and the variables of ``environ`` that have a part in it.

    The variables are those of the burner that this one takes the place of. A file for the burner
    alone need not have listeners.

    :raises ConfigurationError: it cannot be used.
    """
    from gatekeeper.auth.registry import checker_types
    from gatekeeper.config.loading import load

    taken: tuple[str, ...] = ()
    known = dict(environ)

    def burning(tree: dict[str, Any]) -> dict[str, Any]:
        nonlocal taken
        completed = complete(tree, environ)
        taken = completed.taken
        known.update(completed.environ)
        tree = {"listeners": [], **completed.tree}
        if isinstance(tree["burner"], dict):
            tree["burner"]["enabled"] = True
        return tree

    return load(path, checker_types(), environ=known, complete=burning), taken
