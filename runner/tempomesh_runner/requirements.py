"""Which models ask for a package: the other direction of how SQLMesh infers what an environment requires."""

import re
import typing as t
from collections import defaultdict
from collections.abc import Iterable, Mapping
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


def asking_models(
    snapshots: Iterable[Snapshot], packages: Iterable[str], modules: Mapping[str, Iterable[str]] | None = None
) -> dict[str, list[str]]:
    """Packages, each with the models whose code imports it, as `_build_requirements` of SQLMesh reads the code.

    Args:
        snapshots: The models.
        packages: The packages.
        modules: What packages are imported as, where that is known; otherwise what is installed here says it.
    """
    names = {package: _normalized(package) for package in packages}
    imported_as: dict[str, set[str]] = defaultdict(set)
    for package, name in names.items():
        for module in (modules or {}).get(name, ()):
            imported_as[module].add(package)
    distributions = metadata.packages_distributions()
    found: dict[str, set[str]] = defaultdict(set)
    for snapshot in snapshots:
        if not snapshot.is_model:
            continue
        for executable in snapshot.model.python_env.values():
            if executable.kind != "import":
                continue
            library = executable.payload.split()[1].split(".")[0]
            # What is installed nowhere is taken to be called like its package.
            called = {_normalized(name) for name in (*distributions.get(library, ()), library)}
            for package in imported_as[library] | {package for package, name in names.items() if name in called}:
                found[package].add(snapshot.model.name)
    return {package: sorted(models) for package, models in found.items()}


def _normalized(name: str) -> str:
    return _SEPARATORS.sub("-", name).lower()
