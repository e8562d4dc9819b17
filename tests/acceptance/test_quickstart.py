"""`tcloud quickstart` as a stranger meets it."""

import signal
from pathlib import Path

import pytest

from tests.acceptance.processes import command


def test_it_goes_through_to_the_end(tmp_path: Path) -> None:
    with command(tmp_path / "output", "quickstart") as quickstart:
        quickstart.wait_for("Stopped: nothing is left running.", 240)
        assert quickstart.process.wait(30) == 0
        text = quickstart.text()
        assert not [child for child in quickstart.family() if child.is_running()]
    for expected in (
        "Virtual layer updated",
        "* * * * *",
        "*/5 * * * *",
        "prod",
        "bikes.availability",
        "Central Station",
        "Temporal's Web UI",
    ):
        assert expected in text, text


@pytest.mark.parametrize("moment", ["Starting Temporal", "$ tcloud sqlmesh"])
def test_ctrl_c_leaves_no_process(tmp_path: Path, moment: str) -> None:
    with command(tmp_path / "output", "quickstart") as quickstart:
        quickstart.wait_for(moment)
        assert quickstart.end(signal.SIGINT) == 0
