"""When a pause ends, as people write it."""

from datetime import UTC, datetime, timedelta

import click
import pytest
from click.testing import CliRunner

from tcloud.commands.pausing import End, until_option


@pytest.mark.parametrize(
    ("given", "means"),
    [
        ("2h", {"lasts": timedelta(hours=2)}),
        ("1d12h30m5s", {"lasts": timedelta(days=1, hours=12, minutes=30, seconds=5)}),
        ("2026-03-01 09:00", {"until": datetime(2026, 3, 1, 9, tzinfo=UTC)}),
        ("2026-03-01T09:00:00+02:00", {"until": datetime(2026, 3, 1, 7, tzinfo=UTC)}),
        ("", None),
        ("2", None),
        ("h", None),
        ("tomorrow", None),
        ("999999999999d", None),
    ],
)
def test_an_end_is_a_time_or_a_moment(given: str, means: End | None) -> None:
    seen: list[End] = []

    @click.command()
    @until_option
    def command(end: End) -> None:
        seen.append(end)

    result = CliRunner().invoke(command, ["--until", given])

    assert seen == ([] if means is None else [means])
    assert result.exit_code == (2 if means is None else 0)
