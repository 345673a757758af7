"""The two ways to declare a checker: by a table of the configuration, and by a URL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel
from twisted.plugin import IPlugin
from zope.interface import implementer

from gatekeeper.auth.interfaces import IChecker, ICheckerPlugin
from gatekeeper.config.fields import Section
from gatekeeper.errors import ConfigurationError, Problem

S = TypeVar("S", bound=BaseModel)


@implementer(IPlugin, ICheckerPlugin)
class TablePlugin(Generic[S]):
    """A checker configured by a ``[checkers.NAME]`` table with ``type = type_name``.

    ``make`` gets the table's name and an instance of the model ``settings``; it raises
    :class:`ConfigurationError` as :meth:`ICheckerPlugin.make` does.
    """

    schemes = ()

    def __init__(
        self, type_name: str, settings: type[S], make: Callable[[str, S], IChecker]
    ) -> None:
        self.type_name = type_name
        self.settings = settings
        self._make = make

    def make(self, name: str, settings: Any) -> IChecker:
        """See :class:`ICheckerPlugin`."""
        return self._make(name, settings)

    def from_url(self, url: str) -> IChecker:
        """Refuse: this checker has no URL."""
        raise ConfigurationError([Problem("", f"a `{self.type_name}` checker needs a table")])


@implementer(IPlugin, ICheckerPlugin)
class UrlPlugin:
    """A checker configured by a URL with the scheme ``scheme``, in place of a checker's name."""

    type_name = ""
    settings: ClassVar[type[BaseModel]] = Section

    def __init__(self, scheme: str, from_url: Callable[[str], IChecker]) -> None:
        self.schemes = (scheme,)
        self._from_url = from_url

    def make(self, name: str, settings: object) -> IChecker:
        """Refuse: this checker has no table."""
        raise ConfigurationError([Problem("type", f"write a `{self.schemes[0]}://` URL instead")])

    def from_url(self, url: str) -> IChecker:
        """See :class:`ICheckerPlugin`."""
        return self._from_url(url)
