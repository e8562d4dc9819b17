"""Limits over the runner processes of all Python environments together."""

import os
import tempfile
from pathlib import Path

from envmanager.environments import PythonEnvironment, runner_variables
from envmanager.pool import Role
from envmanager.pools import RunnerLimits, RunnerPools
from envmanager.store import Held
from tcloud.wire.pythons import PinnedPython, PythonRequest


def named(name: str) -> PinnedPython:
    request = PythonRequest(requirements={}, sqlmesh_version="0", python_version="3.11", platform="here")
    return PinnedPython(request=request, pinned=name)


async def test_what_is_unused_makes_room_and_what_is_in_use_stays() -> None:
    held: list[str] = []

    class Noted(Held):
        def release(self) -> None:
            held.remove(self.environment.key)

    async def hold(python: PinnedPython) -> Held:
        # This interpreter under other names: what is in it does not matter here.
        held.append(python.key)
        return Noted(PythonEnvironment(PythonEnvironment.of_this_process().interpreter, python.key), -1)

    one, two, three = named("one"), named("two"), named("three")
    with tempfile.TemporaryDirectory(prefix="tm-") as scratch:
        limits = RunnerLimits(max_environments=1, max_idle=1)
        pools = RunnerPools(hold, runner_variables(dict(os.environ)), Path(scratch), limits)
        try:
            async with pools.runner(Role.EVALUATE, one) as busy:
                async with pools.runner(Role.EVALUATE, two):
                    assert held == [one.key, two.key]
                    assert pools.sizes == (2, 0)
                assert busy.is_waiting
            assert pools.sizes == (0, 1)

            async with pools.runner(Role.EVALUATE, three):
                assert held == [three.key]
                assert pools.sizes == (1, 0)
        finally:
            await pools.stop()
    assert held == []
