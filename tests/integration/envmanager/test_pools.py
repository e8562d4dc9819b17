"""Limits of runner processes: of each, and of those of all Python environments together."""

import os
import tempfile
from pathlib import Path

from envmanager.environments import PythonEnvironment, runner_variables
from envmanager.pool import Role, RunnerPool
from envmanager.pools import RunnerLimits, RunnerPools
from envmanager.store import Held
from envmanager.zygote import Zygote
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


async def test_a_runner_is_replaced_after_so_many_tasks_and_when_it_has_grown() -> None:
    async def no_state(method: str, _: bytes) -> bytes:
        raise AssertionError(method)

    with tempfile.TemporaryDirectory(prefix="tm-") as scratch:
        zygote = Zygote(PythonEnvironment.of_this_process(), runner_variables(dict(os.environ)), Path(scratch))
        await zygote.start()
        try:
            for max_tasks, max_memory_bytes, expected in ((2, 10**12, [0, 0, 1, 1]), (100, 1, [0, 1, 2, 3])):
                pool = RunnerPool(zygote, max_tasks, max_memory_bytes)
                pids = []
                for _ in expected:
                    async with pool.runner(Role.EVALUATE) as runner:
                        await runner.call("ping", {}, no_state)
                        pids.append(runner.pid)
                distinct = list(dict.fromkeys(pids))
                assert [distinct.index(pid) for pid in pids] == expected
        finally:
            await zygote.stop()
