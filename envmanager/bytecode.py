"""Compiled modules, kept once for all Python environments: compiling SQLMesh takes longer than installing it.

A module's bytecode is known by the hash of its source, which a wheel's `RECORD` says, and by the interpreter's version.
It is linked into each environment that has the module; Python is told not to compare times, because the environments do
not change.
"""

import asyncio
import base64
import csv
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from envmanager.interpreters import Interpreter

__all__ = ["add_bytecode"]

_COMPILE = """
import json, py_compile, sys
for source, kept, name in json.load(sys.stdin):
    try:
        py_compile.compile(
            source, kept, dfile=name, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
        )
    except (py_compile.PyCompileError, OSError, ValueError):
        pass  # Some packages have files that are of no Python, or of another.
"""
_AT_LEAST = 50
"""Modules that it pays to start another process for."""


@dataclass(frozen=True)
class _Module:
    source: Path
    name: str
    """Relative to its installation: what tracebacks say is put right by Python when it imports."""
    digest: str


async def add_bytecode(site_packages: Path, interpreter: Interpreter, kept: Path) -> None:
    """Gives every installed module its bytecode, and compiles only what was never compiled on this machine.

    Args:
        site_packages: Where the packages have just been installed.
        interpreter: Whose bytecode it is to be.
        kept: The folder that keeps bytecode; may be shared by any number of processes.
    """
    folder = kept / f"{interpreter.version}-{interpreter.platform}"
    modules = await asyncio.to_thread(lambda: list(_modules(site_packages)))
    await _compile(interpreter, folder, modules)
    await asyncio.to_thread(_link, folder, modules, f"cpython-{interpreter.minor.replace('.', '')}")


async def _compile(interpreter: Interpreter, folder: Path, modules: list[_Module]) -> None:
    jobs: list[tuple[str, str, str]] = []
    for module in modules:
        target = _place(folder, module)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            jobs.append((str(module.source), str(target), module.name))
    if not jobs:
        return
    processes = max(1, min(os.cpu_count() or 1, len(jobs) // _AT_LEAST))
    async with asyncio.TaskGroup() as compiling:
        for first in range(processes):
            compiling.create_task(_compile_some(interpreter, jobs[first::processes]))


async def _compile_some(interpreter: Interpreter, jobs: list[tuple[str, str, str]]) -> None:
    process = await asyncio.create_subprocess_exec(
        *(str(interpreter.path), "-I", "-c", _COMPILE),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
    )
    try:
        await process.communicate(json.dumps(jobs).encode())
    except BaseException:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise


def _link(folder: Path, modules: list[_Module], tag: str) -> None:
    made = set()
    for module in modules:
        compiled = module.source.parent / "__pycache__"
        if compiled not in made:
            compiled.mkdir(exist_ok=True)
            made.add(compiled)
        target = compiled / f"{module.source.stem}.{tag}.pyc"
        kept = _place(folder, module)
        try:
            os.link(kept, target)
        except FileNotFoundError:
            continue
        except FileExistsError:
            continue
        except OSError:
            # Another file system, or one file has as many names as it can have.
            shutil.copy2(kept, target)


def _place(folder: Path, module: _Module) -> Path:
    return folder / module.digest[:2] / f"{module.digest}.pyc"


def _modules(site_packages: Path) -> Iterator[_Module]:
    for record in site_packages.glob("*.dist-info/RECORD"):
        with record.open(newline="") as lines:
            for name, digest, *_ in csv.reader(lines):
                if not name.endswith(".py") or name.startswith("..") or _is_test(name):
                    continue
                source = site_packages / name
                hashed = digest.removeprefix("sha256=") if digest.startswith("sha256=") else _digest(source)
                if hashed:
                    # The name is part of it: two empty modules say different things in a traceback.
                    key = sha256(f"{hashed} {name}".encode()).hexdigest()
                    yield _Module(source, name, key)


def _digest(source: Path) -> str:
    try:
        return base64.urlsafe_b64encode(sha256(source.read_bytes()).digest()).decode().rstrip("=")
    except OSError:
        return ""


def _is_test(name: str) -> bool:
    return "/tests/" in name or "/test/" in name
