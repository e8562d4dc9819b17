"""What projects may contain beside models in SQL, applied and run by a runner's tasks as by the built-in scheduler."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.runner.both import BothWays, both_ways, one_file
from tests.integration.runner.features import FEATURES, PACKAGE
from tests.integration.runner.projects import replace


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BothWays]:
    """The project, planned once; its materialization is installed."""
    for name, text in PACKAGE.items():
        path = tmp_path / "packages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    with both_ways(tmp_path, FEATURES, one_file, is_forgetful=False) as both:
        assert both.plan("prod", execution_time="2025-01-06 12:02:00") is None
        yield both


def test_unusual_models_statements_and_audits(both: BothWays) -> None:
    assert both.run("prod", execution_time="2025-01-06 12:21:00", end="2025-01-06 12:21:00") == "success"
    assert both.run("prod", execution_time="2025-01-08 12:00:00", end="2025-01-08 12:00:00") == "success"

    both.edit(lambda folder: replace(folder / "models/weather.sql", "days < 100", "days < 101"))
    assert both.plan("dev", execution_time="2025-01-08 12:00:00") is None
    assert both.run("dev", execution_time="2025-01-09 12:00:00", end="2025-01-09 12:00:00") == "success"
    both.edit(lambda folder: replace(folder / "models/weather.sql", "days < 101", "days < 2"))
    assert both.plan("prod", execution_time="2025-01-09 12:00:00"), "the audit fails, although no model has changed"
    both.edit(lambda folder: replace(folder / "models/weather.sql", "days < 2", "days < 6"))
    assert both.plan("prod", execution_time="2025-01-09 12:00:00") is None
    assert both.run("prod", execution_time="2025-01-11 12:00:00", end="2025-01-11 12:00:00") == "failure"

    both.edit(lambda folder: replace(folder / "models/by_day.sql", "@doubled(", "3 * @doubled("))
    both.edit(lambda folder: replace(folder / "models/weather.sql", "COUNT(*)", "10 + COUNT(*)"))
    assert both.plan("prod", execution_time="2025-01-11 12:00:00"), "a blocking audit fails"


def test_statements_that_fail(both: BothWays) -> None:
    run = {"execution_time": "2025-01-07 12:00:00", "end": "2025-01-07 12:00:00"}
    both.edit(lambda folder: replace(folder / "config.yaml", "@note(done)", "SELECT ERROR(@this_env)"))
    both.edit(lambda folder: (folder / "audits/few_days.sql").unlink())
    assert "'after_all' statement" in str(both.plan("prod", execution_time="2025-01-06 12:02:00"))
    assert "'after_all' statement" in both.run("prod", **run)
    both.edit(lambda folder: replace(folder / "config.yaml", "@note(begin)", "SELECT ERROR(@this_env)"))
    both.edit(lambda folder: (folder / "audits/enough_days.sql").unlink())
    assert "'before_all' statement" in str(both.plan("prod", execution_time="2025-01-07 12:02:00"))
