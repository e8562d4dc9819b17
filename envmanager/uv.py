"""uv, which resolves and installs: how it is called, and what it says."""

import asyncio
import os
import re
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from uv import find_uv_bin

from envmanager.errors import PythonUnavailableError

__all__ = ["Uv"]

_PASSED_ON = frozenset(
    {
        *("PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER", "LOGNAME", "SSL_CERT_FILE", "SSL_CERT_DIR", "NETRC"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "XDG_DATA_HOME", "SYSTEM_VERSION_COMPAT"),
        *("CC", "CXX", "CFLAGS", "LDFLAGS"),
    }
)
"""What reaches uv, and with it the build of a package that has no wheel; no connection of a warehouse does."""

_UV = "UV_"
_NOT_PASSED_ON = frozenset({"UV_PROJECT", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "UV_SYSTEM_PYTHON"})
_EXPECTED = 1
_OUT_OF_REACH = re.compile(
    r"error sending request|request failed after|timed out|connection|http status server error|too many requests"
    r"|no space left",
    re.IGNORECASE,
)
"""What uv says where another attempt may succeed, although its exit code is that of a set without a solution."""

_DRAWING = " \t\u00d7╰─▶│├┬╮╯·"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Uv:
    """Calls the uv that is installed beside the executor.

    Args:
        variables: The executor's environment variables: those of uv, of proxies and certificates are passed on.
        folder: Where it works; a `uv.toml` there is uv's business, as any other of its files.
    """

    def __init__(self, variables: Mapping[str, str], folder: Path):
        self._variables = {
            name: value
            for name, value in variables.items()
            if name.upper() in _PASSED_ON or (name.startswith(_UV) and name not in _NOT_PASSED_ON)
        }
        self._folder = folder

    async def run(self, *arguments: str, stdin: str = "", variables: Mapping[str, str] | None = None) -> str:
        """Runs a command of uv and returns what it prints.

        Args:
            arguments: The command.
            stdin: What it reads.
            variables: Environment variables of this call only.

        Raises:
            PythonUnavailableError: If it fails; with what it said.
            asyncio.CancelledError: If the caller was cancelled; uv has been killed then.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PythonUnavailableError(f"{self._folder} cannot be made: {error}", retryable=True) from error
        process = await asyncio.create_subprocess_exec(
            find_uv_bin(),
            *(*arguments, "--no-progress", "--color", "never", "--no-python-downloads"),
            env={**self._variables, **(variables or {})},
            cwd=self._folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            printed, said = await process.communicate(stdin.encode())
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise
        if process.returncode:
            explained = _explained(said.decode(errors="replace"))
            # Its exit code tells what is wrong with the question from what is wrong with the world.
            retryable = process.returncode != _EXPECTED or _OUT_OF_REACH.search(explained) is not None
            raise PythonUnavailableError(explained, retryable=retryable, packages=_names(explained))
        return printed.decode()


def _explained(said: str) -> str:
    """What uv said as sentences, without its drawing."""
    lines = [line.strip(_DRAWING) for line in said.splitlines() if not line.startswith(("warning:", "Using "))]
    text = " ".join(line for line in lines if line)
    text = re.sub(r"(^|[.:] )(?:error|cause): ", r"\1", re.sub(r"(?<=[^.:]) cause: ", ": ", text))
    return text or "uv failed without a word"


def _names(explained: str) -> frozenset[str]:
    return frozenset(_NAME.findall(explained))
