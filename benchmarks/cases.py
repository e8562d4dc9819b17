"""What is measured, and what is to be reached."""

from dataclasses import dataclass
from enum import StrEnum

from benchmarks.projects import Shape

__all__ = ["CASES", "Case", "Work"]


class Work(StrEnum):
    """What a scheduler has to do in a round."""

    IDLE = "a tick with nothing due"
    DUE = "a run with every model due"
    FIRST = "the first plan, applied"


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    name: str
    work: Work
    shape: Shape
    models: int
    target: float
    """The ratio of Tempomesh's time to the built-in scheduler's that is to be reached."""

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.work}, {self.models:,} models, {self.shape}"


CASES = {
    case.name: case
    for case in (
        Case("idle-200", Work.IDLE, Shape.WIDE, 200, 0.10),
        Case("idle-1000", Work.IDLE, Shape.LAYERS, 1000, 0.10),
        Case("due-wide-200", Work.DUE, Shape.WIDE, 200, 0.60),
        Case("due-chain-200", Work.DUE, Shape.CHAIN, 200, 0.80),
        Case("first-200", Work.FIRST, Shape.WIDE, 200, 1.00),
        Case("first-1000", Work.FIRST, Shape.LAYERS, 1000, 1.00),
    )
}
