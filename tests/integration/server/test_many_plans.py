"""Two hundred plans at the same moment, ten for each environment: each is queued once, in the order of its arrival."""

import asyncio

import httpx

from server.projects import Role
from tcloud.wire.plans import Plan
from tests.fixtures.temporal import TemporalServer
from tests.integration.server.conftest import RunningServer, report_gateway
from tests.integration.server.test_plans import ORIGIN, control_worker

ENVIRONMENTS, EACH = 20, 10


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
