"""Limits of runner processes: of each, and of those of all Python environments together."""

import os
import tempfile
from pathlib import Path

import pytest

from envmanager.connections import ManagedConnections, SealedEnvelope
from envmanager.environments import PythonEnvironment, runner_variables
from envmanager.errors import TaskFailedError
from envmanager.pool import Role, Runner, RunnerPool
from envmanager.pools import RunnerLimits, RunnerPools
from envmanager.store import Held
from envmanager.zygote import Zygote
from tcloud.wire.pythons import PinnedPython, PythonRequest
from vault.envelopes import new_data_key, seal_envelope


def named(name: str) -> PinnedPython:
    request = PythonRequest(requirements={}, sqlmesh_version="0", python_version="3.11", platform="here")
    return PinnedPython(request=request, pinned=name)


CANARY = "canary-of-a-pipe"


def sealed(revision: str, **gateways: str) -> list[SealedEnvelope]:
    """DuckDB databases by gateway, sealed."""
    key = new_data_key()
    return [
        SealedEnvelope(
            gateway=gateway,
            type="duckdb",
            revision=revision,
            sealed=seal_envelope(
                {"type": "duckdb", "token": CANARY, "database": database}, key, project="a.b", gateway=gateway
            ),
            data_key=key,
        )
        for gateway, database in gateways.items()
    ]


def told_by_proc(pid: int) -> bytes:
    """The command line and the variables of a process."""
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))


async def test_runners_have_the_connections_that_the_vault_has_now() -> None:
    managed = ManagedConnections("a.b", own=["brought"])

    async def no_state(method: str, _: bytes) -> bytes:
        raise AssertionError(method)

    async def gateways(runner: Runner) -> list[str]:
        found = await runner.call("describe_gateways", {}, no_state)
        assert found["unusable"] == {}
        assert CANARY.encode() not in told_by_proc(runner.pid)
        return [gateway["name"] for gateway in found["gateways"]]

    async def never(python: PinnedPython) -> Held:
        raise AssertionError(python)

    with tempfile.TemporaryDirectory(prefix="tm-") as scratch:
        variables = runner_variables(dict(os.environ))
        pools = RunnerPools(never, variables, Path(scratch), RunnerLimits(), managed)
        try:
            await pools.start()
            async with pools.runner(Role.PLAN) as first:
                assert await gateways(first) == []
                assert managed.replace(sealed("1", one=":memory:", brought=":memory:"), "x")
                pools.replace_outdated()
                assert first.alive, "what is at work goes on with what it has"
            assert not first.alive
            async with pools.runner(Role.PLAN) as second:
                assert await gateways(second) == ["one"]
            assert second.is_waiting
            assert not managed.replace(sealed("1", one=":memory:"), "y"), "the same one"
            async with pools.runner(Role.PLAN) as same:
                assert same is second
            assert managed.replace([*sealed("2", one=":memory:"), *sealed("3", two=":memory:")], "z")
            pools.replace_outdated()
            assert not second.alive
            async with pools.runner(Role.PLAN) as third:
                assert await gateways(third) == ["one", "two"]
                arguments = {"gateway": "x", "connection": {"type": "postgres", "password": CANARY}}
                with pytest.raises(TaskFailedError) as failed:
                    await third.call("test_connection", arguments, no_state)
                assert "The connection is not valid: host: Field required" in str(failed.value)
            assert managed.hide(f"a {CANARY}") == "a ***"
        finally:
            await pools.stop()


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
                pool = RunnerPool(zygote, ManagedConnections(""), max_tasks, max_memory_bytes)
                pids = []
                for _ in expected:
                    async with pool.runner(Role.EVALUATE) as runner:
                        await runner.call("ping", {}, no_state)
                        pids.append(runner.pid)
                distinct = list(dict.fromkeys(pids))
                assert [distinct.index(pid) for pid in pids] == expected
        finally:
            await zygote.stop()
