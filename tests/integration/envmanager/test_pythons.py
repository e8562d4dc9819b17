"""Interpreters of this machine: an environment may have another one than the executor."""

import asyncio
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from envmanager.errors import PythonUnavailableError
from envmanager.interpreters import Interpreter, find_interpreter
from envmanager.pool import Role
from envmanager.pools import RunnerLimits
from envmanager.resolving import resolve
from envmanager.uv import Uv
from tcloud.wire.pythons import PinnedPython, PythonRequest
from tests.integration.runner.pooled import pooled_runners

SUPPORTED = ("3.13", "3.12", "3.11")


async def other_interpreter(uv: Uv) -> Interpreter:
    """One that is not this one, if the machine has any."""
    here = ".".join(map(str, sys.version_info[:2]))
    for wanted in (*(v for v in SUPPORTED if v != here), here):
        try:
            return await find_interpreter(uv, wanted)
        except PythonUnavailableError:
            continue
    raise AssertionError("this very interpreter was not found")


async def resolved(uv: Uv) -> tuple[Interpreter, PinnedPython]:
    interpreter = await other_interpreter(uv)
    request = PythonRequest(
        requirements={},
        sqlmesh_version=version("sqlmesh"),
        drivers=[],
        python_version=interpreter.minor,
        platform=interpreter.platform,
    )
    return interpreter, await resolve(uv, request, interpreter)


def test_an_environment_has_the_python_that_is_asked_for(tmp_path: Path) -> None:
    async def no_state(method: str, _: bytes) -> bytes:
        raise AssertionError(method)

    with pooled_runners({}, RunnerLimits(max_environments=1)) as runners:
        interpreter, pinned = runners.run(resolved(Uv(os.environ, tmp_path)))

        async def ping() -> dict[str, Any]:
            async with runners.pools.runner(Role.EVALUATE, pinned) as runner:
                return await runner.call("ping", {}, no_state)

        async def both() -> list[dict[str, Any]]:
            return list(await asyncio.gather(ping(), ping()))

        assert runners.run(both()) == [{}, {}]
        own, other = [environment for environment, _, _ in runners.pools.in_use]
        assert own.key == "executor"
        assert (other.key, other.python_version) == (pinned.key, interpreter.version)
        assert runners.pools.sizes == (0, 2)
