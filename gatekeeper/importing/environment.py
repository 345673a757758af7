"""Environment files (``.env``): lines ``NAME=value``, as Docker Compose and Node read them.

The reading is python-dotenv's: quotes, ``export``, comments behind values and values over several
lines have rules that one does not want to guess again. Variables in values are not replaced, and
nothing is put into the environment.
"""

from __future__ import annotations

import io

from dotenv.parser import parse_stream

from gatekeeper.errors import ConfigurationError, Problem


def read_environment_file(text: str, source: str) -> dict[str, str]:
    """The variables by name; of several lines for one name the last counts.

    A name without ``=`` is left out: it stands for a value that the file does not hold.

    :raises ConfigurationError: *all* lines that cannot be read, as ``source:line`` (path ``""``),
        without showing what they hold.
    """
    found: dict[str, str] = {}
    problems = []
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            original = binding.original
            line = original.line + original.string[: -len(original.string.lstrip())].count("\n")
            problems.append(Problem("", f"{source}:{line}: not of the form `NAME=value`"))
        elif binding.key is not None and binding.value is not None:
            found[binding.key] = binding.value
    if problems:
        raise ConfigurationError(problems)
    return found
