"""From the configuration to checkers and chains: finds the plug-ins, and makes what is named."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Final

from twisted.plugin import getPlugins

from gatekeeper import plugins
from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.chain import Chain
from gatekeeper.auth.interfaces import IChecker, ICheckerPlugin, IReloadable
from gatekeeper.auth.revoked import Revoked
from gatekeeper.config.checkers import CheckerTypes
from gatekeeper.config.model import Settings
from gatekeeper.errors import ConfigurationError, Problem

#: Tells chains of one name apart.
_chains: Final = count()


@dataclass(frozen=True, slots=True)
class Plugins:
    """The installed plug-ins by the ``type`` of their table and by the scheme of their URL."""

    types: Mapping[str, ICheckerPlugin]
    schemes: Mapping[str, ICheckerPlugin]


def find_plugins(found: Iterable[ICheckerPlugin] | None = None) -> Plugins:
    """Sort out ``found``; by default, all plug-ins installed in :mod:`gatekeeper.plugins`.

    :raises ConfigurationError: where two of them go by one name; both modules are named.
    """
    types: dict[str, ICheckerPlugin] = {}
    schemes: dict[str, ICheckerPlugin] = {}
    problems: list[Problem] = []

    def claim(table: dict[str, ICheckerPlugin], name: str, plugin: ICheckerPlugin) -> None:
        other = table.setdefault(name, plugin)
        if other is not plugin:
            modules = " and ".join(sorted((_module_of(other), _module_of(plugin))))
            problems.append(Problem("checkers", f"two plug-ins are named `{name}`: {modules}"))

    for plugin in getPlugins(ICheckerPlugin, plugins) if found is None else found:
        if plugin.type_name:
            claim(types, plugin.type_name, plugin)
        for scheme in plugin.schemes:
            claim(schemes, scheme, plugin)
    if problems:
        raise ConfigurationError(problems)
    return Plugins(types, schemes)


def checker_types() -> CheckerTypes:
    """What the configuration has to know of the installed checkers.

    :raises ConfigurationError: see :func:`find_plugins`.
    """
    found = find_plugins()
    return CheckerTypes(
        models={name: plugin.settings for name, plugin in found.types.items()},
        schemes={scheme: partial(_try_url, plugin) for scheme, plugin in found.schemes.items()},
    )


def make_checkers(
    settings: Settings, known: Mapping[str, IChecker] | None = None
) -> Mapping[str, IChecker]:
    """Make every checker that the configuration names: by its name, or by its URL as it is there.

    Those in ``known`` are there already, and are not made. Who calls this owns what is returned:
    see :func:`close_checkers`.

    :raises ConfigurationError: with *all* problems of all checkers, paths from the
        configuration's root (``checkers.keys.file``); nothing is left open then.
    """
    found = find_plugins()
    there = known or {}
    made: dict[str, IChecker] = {}
    problems: list[Problem] = []

    def make(name: str, path: str, build: Callable[[], IChecker]) -> None:
        try:
            made[name] = build()
        except ConfigurationError as error:
            problems.extend(
                Problem(".".join(filter(None, (path, problem.path))), problem.message)
                for problem in error.problems
            )

    for name, table in settings.checkers.items():
        if name not in there:
            build = partial(found.types[table.type].make, name, table.settings)
            make(name, f"checkers.{name}", build)
    for path, url in _urls(settings):
        if url not in made and url not in there:
            scheme = url.partition("://")[0]
            make(url, path, partial(found.schemes[scheme].from_url, url))
    if problems:
        close_checkers(made)
        raise ConfigurationError(problems)
    return made


def make_url_checker(url: str) -> IChecker:
    """Make the checker that a URL names.

    :raises ConfigurationError: with the path ``""``; see :meth:`ICheckerPlugin.from_url`.
    """
    return find_plugins().schemes[url.partition("://")[0]].from_url(url)


def make_table_checker(name: str, kind: str) -> IChecker:
    """Make a checker of type ``kind`` as a ``[checkers.NAME]`` table without other keys does."""
    plugin = find_plugins().types[kind]
    return plugin.make(name, plugin.settings())


def make_chain(
    name: str,
    names: Sequence[str],
    checkers: Mapping[str, IChecker],
    cache: VerdictCache,
    revoked: Revoked | None = None,
    earlier: Chain | None = None,
) -> Chain:
    """A chain of the checkers ``names`` (names or URLs), which ``checkers`` holds.

    ``name`` is unique among the chains that share ``cache``. ``revoked`` knows tokens that count no
    more. ``earlier`` is the chain that this one comes in place of: with the same checkers it
    believes what that one has found out. Others by that name it does not believe.
    """
    # Of a URL only the scheme: the rest may hold a secret, or the name of a user.
    labels = [each[: each.find("://") + 3] if "://" in each else each for each in names]
    asked = tuple(checkers[each] for each in names)
    if earlier is not None and earlier.checkers == asked:
        scope = earlier.scope
    else:
        scope = f"{name} {next(_chains)}"
    return Chain(name, asked, cache, labels, revoked, scope)


def reload_checkers(checkers: Mapping[str, IChecker]) -> bool:
    """Let all checkers read their changed files; to be called about once a second.

    True where cached verdicts may no longer hold: clear the cache then.
    """
    changed = [
        reloadable.reload()
        for checker in checkers.values()
        if (reloadable := IReloadable(checker, None)) is not None
    ]
    return any(changed)


def close_checkers(checkers: Mapping[str, IChecker]) -> None:
    """Close all of them."""
    for checker in checkers.values():
        checker.close()


def _urls(settings: Settings) -> Iterator[tuple[str, str]]:
    chains = {f"services[{i}].checkers": each.checkers for i, each in enumerate(settings.services)}
    for i, each in enumerate(settings.listeners):
        chains[f"listeners[{i}].checkers"] = each.checkers or ()
        chains[f"listeners[{i}].callers"] = each.callers or ()
    for path, names in chains.items():
        for position, name in enumerate(names):
            if "://" in name:
                yield f"{path}[{position}]", name


def _try_url(plugin: ICheckerPlugin, url: str) -> None:
    plugin.from_url(url).close()


def _module_of(plugin: ICheckerPlugin) -> str:
    """The module of the plug-in package that the object was found in."""
    for name, module in tuple(sys.modules.items()):
        if name.startswith(f"{plugins.__name__}.") and any(
            value is plugin for value in vars(module).values()
        ):
            return name
    return str(type(plugin).__module__)
