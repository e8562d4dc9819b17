"""Python environments that runner processes live in."""

import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["OWN", "PythonEnvironment", "runner_variables"]

OWN = "executor"
"""The key of the environment that the executor itself is installed in."""

_HARMLESS = frozenset({"PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER", "LOGNAME", "SSL_CERT_FILE", "SSL_CERT_DIR"})
_PREFIXES = ("SQLMESH__", "LC_")


@dataclass(frozen=True)
class PythonEnvironment:
    """An interpreter with SQLMesh and the libraries that models need."""

    interpreter: Path
    key: str = OWN
    python_version: str = ".".join(map(str, sys.version_info[:3]))
    size_bytes: int = 0
    """Of its files, where it was built here; those that it shares with others are counted, too."""

    @classmethod
    def of_this_process(cls) -> "PythonEnvironment":
        """The environment that the executor itself is installed in."""
        return cls(Path(sys.executable))


def runner_variables(variables: dict[str, str]) -> dict[str, str]:
    """The environment variables that reach a runner: its gateways', and what any program needs; no other secret."""
    return {name: value for name, value in variables.items() if name in _HARMLESS or name.upper().startswith(_PREFIXES)}
