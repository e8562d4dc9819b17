"""An executor that cannot renew a lease stops what it is at while the lease is still its own."""

import asyncio
from contextlib import suppress

import pytest

from activities.leases import LeaseKeeper, LeaseLostError
from tcloud.api.executor import ExecutorApi

LEASE_SECONDS = 4.0


async def evaluate(leases: LeaseKeeper) -> None:
    """Something without an end, for as long as the lease of it lasts."""
    async with asyncio.timeout(LEASE_SECONDS):
        with leases.holding("e1", 2, LEASE_SECONDS):
            await asyncio.Event().wait()


async def test_a_lease_is_lost_before_it_ends_when_the_server_does_not_answer() -> None:
    silence = asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silence.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with ExecutorApi(f"http://127.0.0.1:{port}/sqlmesh/a/b", "token") as api:
            leases = LeaseKeeper(api, "run@here:1")
            with leases.holding("an earlier one", 1, LEASE_SECONDS):
                pass
            renewing = asyncio.create_task(leases.run())
            with pytest.raises(LeaseLostError):
                await evaluate(leases)
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing
    finally:
        silence.set()
        server.close()
        await server.wait_closed()
