"""The Python interpreters of this machine; none is ever downloaded."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from envmanager.errors import PythonUnavailableError
from envmanager.uv import Uv

__all__ = ["Interpreter", "describe_interpreter", "find_interpreter"]

_DESCRIBE = """
import json, platform, sys, sysconfig
soabi = sysconfig.get_config_var("SOABI") or ""
name = soabi.split("-", 2)[2] if soabi.count("-") > 1 else sysconfig.get_platform()
print(json.dumps([sys.executable, platform.python_version(), name]))
"""


@dataclass(frozen=True)
class Interpreter:
    """An interpreter that is there."""

    path: Path
    version: str
    """With the patch: `3.12.1`."""
    platform: str
    """What compiled packages have to fit, such as `x86_64-linux-gnu`."""

    @property
    def minor(self) -> str:
        """Major and minor: `3.12`."""
        return ".".join(self.version.split(".")[:2])


async def find_interpreter(uv: Uv, python_version: str) -> Interpreter:
    """Finds an interpreter of a version, such as `3.12`: the executor's own one, or where uv finds one, or pyenv.

    Raises:
        PythonUnavailableError: If there is none; the plan that asks for it has no chance here.
    """
    own = await describe_interpreter(Path(getattr(sys, "_base_executable", sys.executable)))
    if own.minor == python_version:
        return own
    try:
        path = {"PATH": os.pathsep.join(_search_path())}
        found = (await uv.run("python", "find", "--system", python_version, variables=path)).strip()
    except PythonUnavailableError as error:
        raise PythonUnavailableError(
            f"This executor has no Python {python_version}: install one there, or ask for another `python_version`.",
            retryable=False,
        ) from error
    return await describe_interpreter(Path(found))


async def describe_interpreter(path: Path) -> Interpreter:
    """Asks an interpreter what it is.

    Raises:
        PythonUnavailableError: If it does not say.
    """
    process = await asyncio.create_subprocess_exec(
        *(str(path), "-I", "-c", _DESCRIBE), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    printed, _ = await process.communicate()
    try:
        executable, version, platform = json.loads(printed)
    except ValueError as error:
        raise PythonUnavailableError(f"The interpreter {path} does not run.", retryable=False) from error
    return Interpreter(Path(executable), version, platform)


def _search_path() -> list[str]:
    # What lies behind pyenv's shims: which of them work depends on a version that somebody has chosen for their shell.
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if Path(folder).name != "shims"]
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return folders + sorted(map(str, root.glob("versions/*/bin")), reverse=True)
