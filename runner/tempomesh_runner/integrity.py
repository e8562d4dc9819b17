"""Whether a task has left its process as it found it: the next one must not meet what a model's code did to it.

A runner evaluates one model after another. Code may change what they share (the working directory, variables, where
Python looks for modules, SQLMesh itself); that evaluation keeps its result, and the process is not used for another.
"""

import os
import signal
import sys
import types
import typing as t
from collections.abc import Iterator
from functools import cache

__all__ = ["Integrity", "remember_code"]

_GUARDED = ("sqlmesh", "sqlglot", "tempomesh_runner")
_CODE = (types.FunctionType, types.BuiltinFunctionType, type, classmethod, staticmethod, property)
"""What is noticed when it is replaced. Other values change without anybody's fault: caches, counters, the console."""


class Integrity:
    """The process as it is when this is made."""

    def __init__(self) -> None:
        self._surroundings = _surroundings()
        self._code = remember_code()

    def changed(self) -> list[str]:
        """What is different now, in a few words each."""
        now = _surroundings()
        changed = [what for what, before in self._surroundings.items() if now[what] != before]
        for namespace, code in self._code:
            get = namespace.get
            for name, value in code:
                if get(name) is not value:
                    changed.append(f"{getattr(value, '__module__', '')}.{name}")
                    break
        return changed


@cache
def remember_code() -> list[tuple[t.Mapping[str, t.Any], list[tuple[str, t.Any]]]]:
    """SQLMesh's own code as it is when this is called first: in the process from which the others are forked."""
    return [(namespace, found) for namespace, found in ((n, _code_of(n)) for n in _namespaces()) if found]


def _surroundings() -> dict[str, t.Any]:
    try:
        folder = os.getcwd()  # noqa: PTH109 (it is compared and nothing else)
    except OSError:
        folder = ""
    return {
        "the working directory": folder,
        "environment variables": dict(os.environ),
        "sys.path": list(sys.path),
        "import hooks": [*map(id, sys.meta_path), *map(id, sys.path_hooks)],
        "the handler of SIGTERM": signal.getsignal(signal.SIGTERM),
        "sys.stdout": sys.stdout,
    }


def _namespaces() -> Iterator[t.Mapping[str, t.Any]]:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _GUARDED and isinstance(module, types.ModuleType):
            yield module.__dict__
            for value in list(module.__dict__.values()):
                if isinstance(value, type) and value.__module__ == name:
                    yield value.__dict__


def _code_of(namespace: t.Mapping[str, t.Any]) -> list[tuple[str, t.Any]]:
    return [(name, value) for name, value in namespace.items() if isinstance(value, _CODE)]
