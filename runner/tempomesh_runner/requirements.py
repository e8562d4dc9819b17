"""Which models ask for a package: the other direction of how SQLMesh infers what an environment requires."""

import re
import typing as t
from collections import defaultdict
from collections.abc import Iterable
from importlib import metadata

from sqlmesh.core.snapshot import Snapshot

from tempomesh_runner.process_context import ProcessContext

__all__ = ["asking_models", "who_asks"]

_SEPARATORS = re.compile(r"[-_.]+")


def who_asks(context: ProcessContext, *, plan_id: str, packages: list[str]) -> dict[str, t.Any]:
    """The models of a plan's environment whose code imports these packages."""
    plan = context.store.plan(plan_id)
    own = {s.snapshot_id: s for s in plan.new_snapshots}
    others = context.store.get(s for s in plan.environment.snapshots if s.snapshot_id not in own)
    return {"models": asking_models([*own.values(), *others.values()], packages)}


def asking_models(snapshots: Iterable[Snapshot], packages: Iterable[str]) -> dict[str, list[str]]:
    """Packages, each with the models whose code imports it, as `_build_requirements` of SQLMesh reads the code."""
    wanted = {_normalized(package): package for package in packages}
    distributions = metadata.packages_distributions()
    found: dict[str, set[str]] = defaultdict(set)
    for snapshot in snapshots:
        if not snapshot.is_model:
            continue
        for executable in snapshot.model.python_env.values():
            if executable.kind != "import":
                continue
            library = executable.payload.split()[1].split(".")[0]
            # A library that is not installed here is taken to be called like its package.
            for package in (*distributions.get(library, ()), library):
                if name := wanted.get(_normalized(package)):
                    found[name].add(snapshot.model.name)
    return {package: sorted(models) for package, models in found.items()}


def _normalized(name: str) -> str:
    return _SEPARATORS.sub("-", name).lower()
