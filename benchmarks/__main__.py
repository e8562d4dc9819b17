"""Tempomesh beside SQLMesh's built-in scheduler: `uv run python -m benchmarks [cases…] [--rounds N]`."""

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.cases import CASES, Work
from benchmarks.commands import compile_installed
from benchmarks.measure import Result, measure
from benchmarks.sides import Measurement

LARGEST_PROCESS = 1_000_000_000
"""Bytes: what no process of Tempomesh may reach while a plan is made and applied."""


def main() -> None:
    """Measures the chosen cases and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="case", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each side (default: 3)")
    parser.add_argument("--list", action="store_true", help="say what the cases are, and stop")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.cases) - CASES.keys()):
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(CASES)}")

    console = Console()
    if arguments.list:
        for case in CASES.values():
            console.print(f"{case.name:14} {case.title}; to reach: {case.target:.2f}", highlight=False)
        return

    def say(line: str) -> None:
        console.print(line, highlight=False)

    compile_installed()
    results = [measure(CASES[name], arguments.rounds, say) for name in arguments.cases or CASES]
    console.print(table(results))


def table(results: Sequence[Result]) -> Table:
    """Medians, ratios, and what was to be reached."""
    table = Table(title="medians, side by side with SQLMesh's built-in scheduler")
    for heading in ("case", "built-in", "Tempomesh", "ratio", "to reach", "largest process", ""):
        table.add_column(heading, justify="left" if heading == "case" else "right")
    for result in results:
        builtin, tempomesh = result.seconds
        memory, reached = "", result.ratio <= result.case.target
        if result.case.work is Work.FIRST:
            sizes = [max(map(_size, side)) for side in (result.builtin, result.tempomesh)]
            memory = " / ".join(f"{size / 1e6:.0f} MB" for size in sizes)
            reached &= sizes[1] < LARGEST_PROCESS
        table.add_row(
            result.case.title,
            f"{builtin:.2f} s",
            f"{tempomesh:.2f} s",
            f"{result.ratio:.3f}",
            f"{result.case.target:.2f}",
            memory,
            "yes" if reached else "no",
        )
    return table


def _size(measurement: Measurement) -> int:
    return measurement.memory.size


if __name__ == "__main__":
    main()
