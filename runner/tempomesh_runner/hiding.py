"""What of a connection is a secret, and how it is kept out of whatever is told of its use.

A driver may quote what it was given in an error; who reads the error need not have the password.
"""

import re
import typing as t
from collections.abc import Iterable, Mapping

__all__ = ["Hiding", "is_secret_name", "secret_values"]

_HIDDEN = "***"
_SHORT = 6
"""A shorter secret is only looked for as a word of its own: it might be a part of words that are none."""

_SECRET_NAME = re.compile(
    r"pass|pwd|secret|token|private|credential|keyfile|access_?key|api_?key|jwt|headers|session", re.IGNORECASE
)
_SECRET_INSIDE = re.compile(
    r"(?:pass\w*|pwd|secret|token|key)\s*=\s*'?([^\s'&;]+)|://[^/\s:@]*:([^/\s@]+)@", re.IGNORECASE
)
_NO_SECRETS = frozenset({"true", "false", "none", "null"})

Told = t.TypeVar("Told")


def is_secret_name(name: str) -> bool:
    """Whether an option of that name is a secret."""
    return bool(_SECRET_NAME.search(name))


def secret_values(connections: Iterable[t.Any]) -> set[str]:
    """What is secret of connections: options that are by their names, and what is inside of addresses and DSNs.

    A password that is also the user's name, or the like, is none that could be hidden.

    Args:
        connections: The options of each.
    """
    found: set[str] = set()
    for connection in connections:
        secret, plain = set[str](), set[str]()
        _sort(connection, secret, plain, is_secret=False)
        found |= secret - plain
    return found


class Hiding:
    """Replaces secrets by `***`.

    Args:
        secrets: What is to be replaced.
    """

    def __init__(self, secrets: Iterable[str]):
        # Whoever contains another one comes first.
        found = sorted({s for s in secrets if s.strip() and s.lower() not in _NO_SECRETS}, key=len, reverse=True)
        self._found = re.compile("|".join(map(_pattern, found))) if found else None

    def __call__(self, told: Told) -> Told:
        """The same, with secrets replaced in every text that is in it; names of fields stay."""
        if self._found is None:
            return told
        match told:
            case str():
                return t.cast(Told, self._found.sub(_HIDDEN, told))
            case dict():
                return t.cast(Told, {name: self(value) for name, value in told.items()})
            case list():
                return t.cast(Told, [self(value) for value in told])
            case _:
                return told


def _sort(options: t.Any, secret: set[str], plain: set[str], *, is_secret: bool) -> None:
    match options:
        case Mapping():
            for name, value in options.items():
                _sort(value, secret, plain, is_secret=is_secret or is_secret_name(str(name)))
        case list() | tuple() | set():
            for value in options:
                _sort(value, secret, plain, is_secret=is_secret)
        case str() if is_secret:
            secret.add(options)
            # A key in PEM form is quoted line by line, if at all.
            secret.update(line for line in options.splitlines() if len(line) > _SHORT)
        case str():
            plain.add(options)
            secret.update(found for pair in _SECRET_INSIDE.findall(options) for found in pair if found)
        case int() if is_secret and not isinstance(options, bool):
            secret.add(str(options))


def _pattern(secret: str) -> str:
    return re.escape(secret) if len(secret) >= _SHORT else rf"(?<!\w){re.escape(secret)}(?!\w)"
