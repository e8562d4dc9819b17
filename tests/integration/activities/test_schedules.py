"""Temporal's schedules follow what there should be, whatever becomes of them, and write only what differs."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import (
    Client,
    CreateScheduleInput,
    DeleteScheduleInput,
    Interceptor,
    ListSchedulesInput,
    OutboundInterceptor,
    ScheduleAsyncIterator,
    ScheduleCalendarSpec,
    ScheduleHandle,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
    UpdateScheduleInput,
)
from temporalio.service import RPCError

from activities.schedules import EnvironmentSchedules, MaintenanceSchedule
from activities.schedules.definitions import Definition
from activities.schedules.missed import missed
from tcloud.wire.environments import CronGroup, ScheduledEnvironment
from tests.eventually import eventually_async
from tests.fixtures.temporal import TemporalServer
from workflows.codec import data_converter
from workflows.interfaces import MAINTENANCE

DAILY = CronGroup(cron="@daily", timezone="UTC", models=["db.trips"])
LAST_FRIDAY = CronGroup(cron="30 2 * * L5", timezone="America/New_York", models=["db.pay"])


class Counting(Interceptor):
    """Counts what a client asks of Temporal's schedules."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002
        calls = self.calls

        class Outbound(OutboundInterceptor):
            def list_schedules(self, input: ListSchedulesInput) -> ScheduleAsyncIterator:  # noqa: A002
                calls["list"] += 1
                return super().list_schedules(input)

            async def create_schedule(self, input: CreateScheduleInput) -> ScheduleHandle:  # noqa: A002
                calls["create"] += 1
                return await super().create_schedule(input)

            async def update_schedule(self, input: UpdateScheduleInput) -> None:  # noqa: A002
                calls["update"] += 1
                await super().update_schedule(input)

            async def delete_schedule(self, input: DeleteScheduleInput) -> None:  # noqa: A002
                calls["delete"] += 1
                await super().delete_schedule(input)

        return Outbound(next)


@pytest.fixture
def counting() -> Counting:
    """Counts the calls of `client`."""
    return Counting()


@pytest.fixture
async def client(temporal: TemporalServer, counting: Counting) -> Client:
    """A client of a namespace of its own, with encrypted payloads."""
    return await Client.connect(
        temporal.address,
        namespace=await temporal.fresh_namespace("schedules"),
        data_converter=data_converter({"test": bytes(32)}),
        interceptors=[counting],
    )


async def listed(client: Client) -> list[str]:
    return sorted([found.id async for found in await client.list_schedules()])


async def seen(client: Client, ids: Sequence[str]) -> None:
    """Waits until a listing has it all: visibility lags behind."""

    async def check() -> bool:
        return await listed(client) == sorted(ids)

    await eventually_async(check)


async def reconcile(client: Client, **environments: list[CronGroup]) -> Any:
    async def wanted() -> list[ScheduledEnvironment]:
        return [ScheduledEnvironment(environment=name, crons=crons) for name, crons in environments.items()]

    return await EnvironmentSchedules(client).reconcile(wanted)


def id_of(group: CronGroup, environment: str = "prod") -> str:
    return Definition(environment, group).schedule_id


async def runs(client: Client) -> list[str]:
    return [found.id async for found in client.list_workflows("WorkflowType = 'RunWorkflow'")]


async def test_two_hundred_crons_take_one_listing_and_then_nothing(client: Client, counting: Counting) -> None:
    crons = [
        CronGroup(cron=f"{minute} {hour} * * *", timezone="UTC", models=[f"db.m{minute}_{hour}"])
        for minute in range(20)
        for hour in range(10)
    ]
    schedules = EnvironmentSchedules(client)

    await schedules.sync("prod", crons)
    assert counting.calls == {"list": 1, "create": 200}
    await seen(client, [id_of(group) for group in crons])
    counting.calls.clear()
    await schedules.sync("prod", crons)
    assert counting.calls == {"list": 1}
    counting.calls.clear()
    assert await reconcile(client, prod=crons) == await reconcile(client, prod=crons)
    assert counting.calls == {"list": 2}


async def test_a_sync_changes_what_has_changed_and_keeps_what_is_paused(client: Client, counting: Counting) -> None:
    schedules = EnvironmentSchedules(client)
    await schedules.sync("prod", [DAILY, LAST_FRIDAY])
    await schedules.sync("dev", [DAILY])
    await seen(client, [id_of(DAILY), id_of(LAST_FRIDAY), id_of(DAILY, "dev")])
    await client.get_schedule_handle(id_of(DAILY)).pause(note="Not now.")
    counting.calls.clear()

    grown = DAILY.model_copy(update={"models": ["db.trips", "db.rides"]})
    await schedules.sync("prod", [grown])

    await seen(client, [id_of(DAILY), id_of(DAILY, "dev")])
    assert (counting.calls["create"], counting.calls["update"], counting.calls["delete"]) == (1, 1, 1)
    found = (await client.get_schedule_handle(id_of(DAILY)).describe()).schedule
    assert found.state.paused
    assert found.state.note == "2 models of prod at @daily (UTC): db.trips, db.rides"


async def test_a_deleted_schedule_comes_back_and_what_it_missed_is_made_up_for(client: Client) -> None:
    await EnvironmentSchedules(client).sync("prod", [DAILY, LAST_FRIDAY])
    await client.get_schedule_handle(id_of(DAILY)).delete()

    outcome = await reconcile(client, prod=[DAILY, LAST_FRIDAY])

    assert outcome.created == [id_of(DAILY)]
    await seen(client, [id_of(DAILY), id_of(LAST_FRIDAY)])


async def test_schedules_that_are_asked_for_only_now_start_one_run_at_once(client: Client) -> None:
    assert (await reconcile(client, dev=[DAILY, LAST_FRIDAY])).caught_up == ["dev"]

    async def one_run() -> bool:
        found = await runs(client)
        assert len(found) <= 1
        return found != [] and found[0].startswith("run/dev-20")

    await eventually_async(one_run)
    assert (await reconcile(client, dev=[DAILY, LAST_FRIDAY])).caught_up == []


async def test_a_foreign_change_is_put_right(client: Client) -> None:
    await EnvironmentSchedules(client).sync("prod", [LAST_FRIDAY])
    handle = client.get_schedule_handle(id_of(LAST_FRIDAY))
    before = (await handle.describe()).schedule

    def change(found: ScheduleUpdateInput) -> ScheduleUpdate:
        schedule = found.description.schedule
        schedule.spec = ScheduleSpec(calendars=[ScheduleCalendarSpec()])
        schedule.policy.catchup_window = timedelta(days=365)
        schedule.action.task_queue = "elsewhere"  # type: ignore[attr-defined]
        return ScheduleUpdate(schedule=schedule)

    await handle.update(change)
    assert (await handle.describe()).schedule.spec != before.spec

    assert (await reconcile(client, prod=[LAST_FRIDAY])).updated == [id_of(LAST_FRIDAY)]
    after = (await handle.describe()).schedule
    assert (after.spec, after.policy) == (before.spec, before.policy)
    assert (await reconcile(client, prod=[LAST_FRIDAY])).updated == []


async def test_what_somebody_paused_stays_paused_and_misses_nothing(client: Client) -> None:
    await EnvironmentSchedules(client).sync("prod", [DAILY])
    handle = client.get_schedule_handle(id_of(DAILY))
    await handle.pause(note="Until the warehouse is bigger.")

    outcome = await reconcile(client, prod=[DAILY])

    assert outcome.paused == [id_of(DAILY)]
    assert outcome.caught_up == []
    assert (await handle.describe()).schedule.state.paused


async def test_a_pause_of_the_environment_is_told_from_one_by_hand(client: Client) -> None:
    schedules = EnvironmentSchedules(client)
    await schedules.sync("prod", [DAILY, LAST_FRIDAY])
    daily, friday = (client.get_schedule_handle(id_of(group)) for group in (DAILY, LAST_FRIDAY))
    await friday.pause(note="Not now.")

    async def state(handle: ScheduleHandle) -> tuple[bool, str]:
        found = (await handle.describe()).schedule.state
        return found.paused, found.note or ""

    running = ScheduledEnvironment(environment="prod", crons=[DAILY, LAST_FRIDAY])
    paused = running.model_copy(update={"pause": "paused by ada: upgrade (pause 4f20)."})
    before = await state(daily)
    await schedules.follow_pause(paused)
    assert await state(daily) == (True, f"The environment is paused by ada: upgrade (pause 4f20). {before[1]}")
    assert (await state(friday))[1].startswith("Paused in Temporal, and the environment is paused by ada: upgrade")

    # Nobody resumes it behind Tempomesh's back.
    await daily.unpause(note="Let it run.")

    async def wanted() -> list[ScheduledEnvironment]:
        return [paused]

    assert (await schedules.reconcile(wanted)).paused == [id_of(LAST_FRIDAY)]
    assert (await state(daily))[0]

    await schedules.follow_pause(running)
    assert await state(daily) == before
    assert (await state(friday))[0]


async def test_what_was_due_during_a_pause_is_not_made_up_for(client: Client) -> None:
    await EnvironmentSchedules(client).sync("prod", [DAILY])
    described = {id_of(DAILY): await client.get_schedule_handle(id_of(DAILY)).describe()}
    later = datetime.now(UTC) + timedelta(days=3)

    def caught_up(resumed_at: datetime | None) -> list[str]:
        wanted = {id_of(DAILY): Definition("prod", DAILY, resumed_at=resumed_at)}
        return [environment for environment, _ in missed(wanted, described, (), later)]

    assert caught_up(None) == caught_up(later - timedelta(days=2)) == ["prod"]
    assert caught_up(later) == []


async def test_schedules_of_an_environment_that_is_gone_are_deleted(client: Client) -> None:
    await EnvironmentSchedules(client).sync("prod", [DAILY])
    await EnvironmentSchedules(client).sync("dev", [DAILY])
    await seen(client, [id_of(DAILY), id_of(DAILY, "dev")])

    assert (await reconcile(client, prod=[DAILY])).deleted == [id_of(DAILY, "dev")]
    await seen(client, [id_of(DAILY)])


async def test_what_never_comes_has_no_schedule(client: Client) -> None:
    over = CronGroup(cron="0 0 1 1 * 0 2020", timezone="UTC", models=["db.old"])
    leap = CronGroup(cron="0 0 29 2 *", timezone="UTC", models=["db.leap"])

    await EnvironmentSchedules(client).sync("prod", [over, leap])

    await seen(client, [id_of(leap)])
    assert (await reconcile(client, prod=[over, leap])).created == []


async def test_hours_away_are_made_up_for_with_one_run(client: Client) -> None:
    often = CronGroup(cron="*/5 * * * *", timezone="UTC", models=["db.often"])
    hourly = CronGroup(cron="@hourly", timezone="UTC", models=["db.hourly"])
    await EnvironmentSchedules(client).sync("prod", [often, hourly])
    wanted = {id_of(group): Definition("prod", group) for group in (often, hourly)}
    described = {name: await client.get_schedule_handle(name).describe() for name in wanted}
    now = datetime.now(UTC)

    assert list(missed(wanted, described, (), now)) == []
    assert [environment for environment, _ in missed(wanted, described, (), now + timedelta(hours=3))] == ["prod"]


async def test_a_schedule_explains_itself(client: Client) -> None:
    many = CronGroup(cron="0 9-17 * * mon-fri", timezone="Europe/Berlin", models=[f"db.m{n:03}" for n in range(300)])
    await EnvironmentSchedules(client).sync("prod", [many])

    found = await client.get_schedule_handle(id_of(many)).describe()

    assert await found.memo() == {"environment": "prod", "cron": many.cron, "timezone": "Europe/Berlin"}
    note = found.schedule.state.note or ""
    assert note.startswith("300 models of prod at 0 9-17 * * mon-fri (Europe/Berlin): db.m000, ")
    assert note.endswith(" and 290 more")


async def test_maintenance_has_one_schedule_of_its_own(client: Client) -> None:
    await MaintenanceSchedule(client, timedelta(minutes=5)).ensure()
    await MaintenanceSchedule(client, timedelta(minutes=5)).ensure()
    handle = client.get_schedule_handle(MAINTENANCE)
    (interval,) = (await handle.describe()).schedule.spec.intervals
    assert interval.every == timedelta(minutes=5)

    await MaintenanceSchedule(client, timedelta(minutes=1)).ensure()

    (interval,) = (await handle.describe()).schedule.spec.intervals
    assert interval.every == timedelta(minutes=1)
    assert await listed(client) in ([], [MAINTENANCE])


async def test_a_schedule_of_the_maintenance_that_is_deleted_is_made_again(client: Client) -> None:
    schedule = MaintenanceSchedule(client, timedelta(seconds=1))
    await schedule.ensure()
    handle = client.get_schedule_handle(MAINTENANCE)
    await handle.pause()
    keeping = asyncio.create_task(schedule.keep())
    try:
        await handle.delete()

        async def is_back() -> bool:
            with suppress(RPCError):
                return not (await handle.describe()).schedule.state.paused
            return False

        await eventually_async(is_back)
        assert not keeping.done()
    finally:
        keeping.cancel()
