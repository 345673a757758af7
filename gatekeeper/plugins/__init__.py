"""Checkers found at start: every module here, and in a ``gatekeeper/plugins`` directory without
``__init__.py`` on the Python path, may hold objects that provide
:class:`gatekeeper.auth.interfaces.ICheckerPlugin`.
"""

from twisted.plugin import pluginPackagePaths

__path__.extend(pluginPackagePaths(__name__))
__all__: list[str] = []
