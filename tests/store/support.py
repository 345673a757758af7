"""pytest-twisted has no types; here is what the tests use of it, with one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ParamSpec

import pytest_twisted

P = ParamSpec("P")

#: Runs a coroutine function as a test, in the reactor.
in_reactor: Callable[[Callable[P, Awaitable[None]]], Callable[P, None]]
in_reactor = pytest_twisted.ensureDeferred
