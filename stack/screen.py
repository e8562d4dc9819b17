"""What `tcloud quickstart` shows: always something that moves, and tables of what came out of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tcloud.wire.environments import Schedule
from tcloud.wire.runs import Evaluation
from tcloud.wire.statuses import Status

__all__ = ["Screen"]

REFRESH_SECONDS = 0.125
MODELS_SHOWN = 4


class Activity:
    """One thing that takes time: a spinner, what it is, and for how long already."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._since = time.monotonic()
        self._spinner = Spinner("dots", style="cyan")

    @property
    def seconds(self) -> float:
        """For how long it has gone on."""
        return time.monotonic() - self._since

    def __rich__(self) -> RenderableType:
        self._spinner.update(text=Text.assemble(self.text, (f"  {self.seconds:.0f} s", "dim")))
        return self._spinner


class Screen:
    """A terminal, or a file that gets the same without what moves; also the supervisor's reporter."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._activities: dict[str, Activity] = {}

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return self._console.width

    def headline(self, text: str) -> None:
        """Begins a step."""
        self._console.print()
        self._console.print(Text(text, style="bold"))

    def line(self, text: str | Text = "") -> None:
        """Prints above whatever moves."""
        self._console.print(text, highlight=False)

    def output(self, text: str) -> None:
        """A line that another program printed."""
        self._console.print(Text.from_ansi(text))

    @asynccontextmanager
    async def moving(self) -> AsyncIterator[None]:
        """Shows the activities, as long as the context is open.

        It is the event loop that moves them: rich's own thread could overwrite a line that is being printed.
        """
        with Live(
            get_renderable=lambda: Group(*self._activities.values()),
            console=self._console,
            auto_refresh=False,
            transient=True,
        ) as live:

            async def refresh() -> None:
                while True:
                    live.refresh()
                    await asyncio.sleep(REFRESH_SECONDS)

            refreshing = asyncio.create_task(refresh())
            try:
                yield
            finally:
                refreshing.cancel()

    @contextmanager
    def activity(self, text: str) -> Iterator[Activity]:
        """Something that takes time; its text may change meanwhile."""
        activity = self._activities[text] = Activity(text)
        try:
            yield activity
        finally:
            del self._activities[text]

    def starting(self, name: str) -> None:
        """A process is about to start."""
        self._activities[name] = Activity(name)

    def serving(self, name: str, took: timedelta) -> None:
        """A process serves."""
        self._activities.pop(name, None)
        self.line(Text.assemble(("✓ ", "green"), name, (f"  {took.total_seconds():.1f} s", "dim")))

    def problem(self, message: str) -> None:
        """Something that the supervisor deals with."""
        self.line(Text(f"! {message}", style="yellow"))

    def stopping(self, name: str) -> None:
        """A process is asked to stop."""
        self._activities.pop(name, None)

    def schedules(self, schedules: Sequence[Schedule]) -> None:
        """One line for each cron."""
        table = Table("cron", "models", "next", box=None, header_style="dim", pad_edge=False)
        for schedule in sorted(schedules, key=lambda each: each.next_run_at or datetime.max.replace(tzinfo=UTC)):
            names = [_short(model) for model in schedule.models]
            more = f" and {len(names) - MODELS_SHOWN} more" if len(names) > MODELS_SHOWN else ""
            table.add_row(schedule.cron, ", ".join(names[:MODELS_SHOWN]) + more, _from_now(schedule.next_run_at))
        self._console.print(table)

    def evaluations(self, evaluations: Sequence[Evaluation]) -> None:
        """One line for each evaluation of a run."""
        table = Table("model", "interval", "status", "audits", "took", box=None, header_style="dim", pad_edge=False)
        for each in evaluations:
            passed = sum(audit.status is Status.SUCCESS for audit in each.audits)
            took = (each.end_at - each.start_at).total_seconds() if each.start_at and each.end_at else None
            table.add_row(
                _short(each.model),
                f"{_clock(each.interval_start)} to {_clock(each.interval_end)}" if each.interval_start else "",
                Text(each.status.value, style="green" if each.status is Status.SUCCESS else "red"),
                f"{passed} of {len(each.audits)} passed" if each.audits else "",
                "" if took is None else f"{took:.2f} s",
            )
        self._console.print(table)

    def rows(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Rows of a table in the warehouse."""
        table = Table(*columns, box=None, header_style="dim", pad_edge=False)
        for row in rows:
            table.add_row(*(str(value) for value in row))
        self._console.print(table)


def _short(model: str) -> str:
    """`"warehouse"."bikes"."trips"` as people write it: `bikes.trips`."""
    return ".".join(part.strip('"') for part in model.split(".")[-2:])


def _clock(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(UTC):%H:%M}"


def _from_now(moment: datetime | None) -> str:
    if moment is None:
        return "never"
    seconds = max(0, round((moment - datetime.now(UTC)).total_seconds()))
    return f"{moment.astimezone(UTC):%H:%M:%S} UTC, in {timedelta(seconds=seconds)}"
