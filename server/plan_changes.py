"""What a plan really changes, from the plan itself and from state; nobody's word is taken for it."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import orjson
from sqlmesh.core.constants import PROD
from sqlmesh.core.environment import Environment, EnvironmentStatements
from sqlmesh.core.snapshot import Snapshot, SnapshotFingerprint, SnapshotId, SnapshotTableInfo
from sqlmesh.utils.errors import SQLMeshError

from server.access import Access
from server.database import Transaction
from server.errors import ApiError
from server.granted_models import EnvironmentModels, SelectableNode, models_of, selector_of
from server.permissions import EVERYTHING
from server.plans import Submission
from server.state_reads import stored_snapshots
from tcloud.wire.grants import Action

__all__ = ["check_plan"]

_NAMING = ("suffix_target", "catalog_name_override", "normalize_name", "gateway_managed")
_STATEMENTS = "before_all and after_all"
_VIEWS = "where its views are"


@dataclass(frozen=True)
class _Changes:
    """What a plan changes in its environment, by fully qualified names."""

    added: frozenset[str]
    modified: frozenset[str]
    """Those whose own definition differs; not those of which only something upstream does."""
    removed: frozenset[str]
    restated: frozenset[str]
    of_all: list[str]
    """What it changes for the environment as a whole."""
    before: EnvironmentModels
    after: EnvironmentModels


def check_plan(
    transaction: Transaction, access: Access, submission: Submission, body: bytes, default_catalog: str | None
) -> None:
    """Checks that its submitter may plan all that a plan changes, as it was before and as it is to be.

    Args:
        transaction: An open transaction.
        access: Who submits it.
        submission: What was read of the plan.
        body: The plan.
        default_catalog: The default catalog of the plan's gateway.

    Raises:
        ApiError: 403 if not; it names each model. 422 if it is no plan.
    """
    environment = submission.environment
    selections = access.permissions.selections(Action.PLAN, environment)
    if EVERYTHING in selections:
        return
    try:
        changes = _changes(transaction, environment, body, default_catalog)
    except (SQLMeshError, ValueError, KeyError, TypeError, AttributeError) as error:
        if not selections:
            raise access.denied(Action.PLAN, environment) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ApiError(
            422,
            "TM-PLAN",
            f"The body is not a plan as SQLMesh serializes it ({reason}): submit it with `tcloud sqlmesh`.",
        ) from error
    before, after = (selector_of(transaction, models) for models in (changes.before, changes.after))

    def missing(names: Collection[str], *, now: bool) -> set[str]:
        selector = after if now else before
        return set(access.permissions.missing(Action.PLAN, environment, names, selector.expand))

    denied: dict[str, Iterable[str]] = {
        "adds": missing(changes.added, now=True),
        # A tag that is only set by the plan, or is taken away by it, gives nobody a model.
        "modifies": missing(changes.modified & before.names, now=False) | missing(changes.modified, now=True),
        "removes": missing(changes.removed, now=False),
        "restates": missing(changes.restated, now=False),
        "changes for all models": changes.of_all if missing(after.names, now=True) else (),
    }
    if any(denied.values()):
        raise access.denied_plan(environment, {kind: sorted(names) for kind, names in denied.items() if names})
    if not selections:
        raise access.denied(Action.PLAN, environment)


def _changes(transaction: Transaction, name: str, body: bytes, default_catalog: str | None) -> _Changes:
    plan = orjson.loads(body)
    target = Environment.model_validate(plan["environment"])
    if bool(plan.get("is_dev")) != (name != PROD):
        raise ValueError(f"is_dev does not say what environment '{name}' is")
    new = {(each["name"], _identifier(each)): each for each in plan.get("new_snapshots") or []}
    after = {info.name: info for info in target.snapshots}
    current = transaction.state.get_environment(name)
    if current is not None and current.expired:
        current = None
    known = _known(transaction, name, current)
    changed = {info.name: info for info in after.values() if info.snapshot_id not in _ids(known.get(info.name, ()))}
    is_preview = name != PROD and bool(plan.get("is_dev")) and not plan.get("restate_all_snapshots")
    restated = set(plan.get("restatements") or {})
    if is_preview:
        # Its own new versions of forward-only models, and what reads them, are filled for the first time.
        restated -= set(changed)
    base = models_of(transaction, name if current is not None else PROD)
    base = EnvironmentModels(base.nodes, base.default_catalog or default_catalog)
    return _Changes(
        added=frozenset(changed.keys() - known.keys()),
        modified=frozenset(_modified(transaction, changed, known, new)),
        removed=frozenset(_removed(current, target)),
        restated=frozenset(restated),
        of_all=_of_all(transaction, name, current, target, plan.get("environment_statements")),
        before=base,
        after=EnvironmentModels(
            _nodes(transaction, after.values(), new),
            base.default_catalog,
        ),
    )


def _known(transaction: Transaction, name: str, current: Environment | None) -> dict[str, list[SnapshotTableInfo]]:
    """The versions that a plan may put into an environment without changing anything: those that are in it.

    A new development environment is made of versions of other environments.
    """
    if current is not None:
        environments = [current]
    elif name == PROD:
        environments = []
    else:
        environments = [each for each in transaction.state.get_environments() if not each.expired]
    known: dict[str, list[SnapshotTableInfo]] = {}
    for environment in environments:
        for info in environment.snapshots:
            known.setdefault(info.name, []).append(info)
    return known


def _modified(
    transaction: Transaction,
    changed: dict[str, SnapshotTableInfo],
    known: dict[str, list[SnapshotTableInfo]],
    new: dict[tuple[str, str], dict[str, object]],
) -> Iterable[str]:
    both = {name: info for name, info in changed.items() if name in known}
    stored = transaction.state.get_snapshots(
        [*(old for name in both for old in known[name]), *(i for n, i in both.items() if (n, i.identifier) not in new)]
    )
    for name, info in both.items():
        submitted = new.get((name, info.identifier))
        after = Snapshot.model_validate(submitted) if submitted is not None else stored[info.snapshot_id]
        # From the definitions: what a fingerprint says of itself was made on the submitter's machine.
        if all(_differ(after, stored[old.snapshot_id]) for old in known[name] if old.snapshot_id in stored):
            yield name


def _differ(after: Snapshot, before: Snapshot) -> bool:
    return after.is_directly_modified(before) or after.node.metadata_hash != before.node.metadata_hash


def _removed(current: Environment | None, target: Environment) -> set[str]:
    if current is None:
        return set()
    gone = {info.name for info in current.snapshots} - {info.name for info in target.snapshots}
    # In the environment, but without a view there any more.
    hidden = {info.name for info in current.promoted_snapshots} - {info.name for info in target.promoted_snapshots}
    return gone | hidden


def _of_all(
    transaction: Transaction,
    name: str,
    current: Environment | None,
    target: Environment,
    statements: list[dict[str, object]] | None,
) -> list[str]:
    changed = []
    if current is not None and any(getattr(current, field) != getattr(target, field) for field in _NAMING):
        changed.append(_VIEWS)
    before = transaction.state.get_environment_statements(name if current is not None else PROD)
    after = [EnvironmentStatements.model_validate(each) for each in statements or []]
    if sorted(before, key=_project) != sorted(after, key=_project):
        changed.append(_STATEMENTS)
    return changed


def _project(statements: EnvironmentStatements) -> str:
    return statements.project or ""


def _nodes(
    transaction: Transaction, infos: Iterable[SnapshotTableInfo], new: dict[tuple[str, str], dict[str, object]]
) -> dict[str, SelectableNode]:
    nodes, others = {}, []
    for info in infos:
        submitted = new.get((info.name, info.identifier))
        if submitted is None:
            others.append(info)
        else:
            nodes[info.name] = SelectableNode.of(info.name, submitted)
    nodes.update((name, SelectableNode.of(name, stored)) for name, stored in stored_snapshots(transaction, others))
    return nodes


def _identifier(snapshot: dict[str, object]) -> str:
    return SnapshotFingerprint.model_validate(snapshot["fingerprint"]).to_identifier()


def _ids(infos: Iterable[SnapshotTableInfo]) -> set[SnapshotId]:
    return {info.snapshot_id for info in infos}
