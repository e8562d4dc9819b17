"""Two hundred plans at the same moment, ten for each environment: each is queued once, in the order of its arrival."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from server.projects import Role
from tcloud.wire.plans import Plan
from tests.eventually import eventually_async
from tests.fixtures.databases import Database
from tests.fixtures.temporal import TemporalServer
from tests.integration.server.conftest import RunningServer, report_gateway, serving
from tests.integration.server.test_plans import ORIGIN, control_worker

pytestmark = pytest.mark.xdist_group("temporal")

ENVIRONMENTS, EACH = 20, 10


@pytest.fixture
async def namespace(temporal: TemporalServer) -> str:
    return await temporal.fresh_namespace()


@pytest.fixture
def scheduled(database: Database, tmp_path: Path, temporal: TemporalServer, namespace: str) -> Iterator[RunningServer]:
    with serving(database.url, tmp_path, namespace, temporal.address) as running:
        yield running


async def test_two_hundred_plans_at_once(scheduled: RunningServer, temporal: TemporalServer, namespace: str) -> None:
    with scheduled.client(Role.EXECUTOR) as executor:
        report_gateway(executor)
    token = {"Authorization": f"Bearer {Role.DEVELOPER}-token"}
    async with (
        control_worker(scheduled, temporal, namespace),
        httpx.AsyncClient(base_url=f"{scheduled.url}/api/", headers=token, trust_env=False, timeout=120) as developer,
    ):

        async def submit(number: int) -> httpx.Response:
            environment = {"name": f"dev_{number % ENVIRONMENTS}", "plan_id": f"plan-{number}"}
            return await developer.post("plans", json={"environment": environment}, params=ORIGIN)

        answers = await asyncio.gather(*(submit(number) for number in range(ENVIRONMENTS * EACH)))
        assert {answer.status_code for answer in answers} == {201}
        found = [Plan.model_validate(plan) for plan in (await developer.get("plans", params={"limit": 1000})).json()]
        queues: dict[str, list[int | None]] = {}
        for plan in found:
            queues.setdefault(plan.environment, []).append(plan.queue_position)
        assert len(queues) == ENVIRONMENTS
        assert all(sorted(positions, key=str) == sorted(range(EACH), key=str) for positions in queues.values()), queues
        cancelled = await asyncio.gather(*(developer.post(f"plans/{plan.plan_id}/cancel") for plan in found))
        assert {answer.status_code for answer in cancelled} == {200}

        async def are_over() -> bool:
            listed = (await developer.get("plans", params={"limit": 1000})).json()
            return {plan["status"] for plan in listed} == {"aborted"}

        await eventually_async(are_over)
