"""SQLMesh's state as a planner reads it: over HTTP, with what cannot change kept on disk."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from platformdirs import user_cache_path
from sqlmesh.core.snapshot import Snapshot, SnapshotId, SnapshotIdLike
from sqlmesh.core.snapshot.cache import SnapshotCache
from sqlmesh.core.state_sync.base import Versions
from sqlmesh.utils import errors
from sqlmesh.utils.errors import SQLMeshError

from tcloud.api.client import Api
from tcloud.errors import TcloudError
from tempomesh_runner.state import RemoteStateSync, Transport

__all__ = ["CloudStateSync", "cloud_state"]

_STATE_ERROR = "TM-STATE"


class CloudStateSync(RemoteStateSync):
    """`RemoteStateSync` that fetches the immutable part of each snapshot once.

    SQLMesh's own `SnapshotCache` keeps the snapshots, for a week and for one version of SQLMesh. What may have changed
    since (`SnapshotOverlay`) is asked for every time, so a kept snapshot is never shown with stale intervals, and one
    that is gone from state is not shown at all.

    Args:
        api: The project's server.
        cache_dir: Where to keep snapshots; one folder per project.
    """

    def __init__(self, api: Api, cache_dir: Path):
        super().__init__(_transport(api))
        self._api = api
        self._cache = SnapshotCache(cache_dir)

    def get_snapshots(self, snapshot_ids: Iterable[SnapshotIdLike]) -> dict[SnapshotId, Snapshot]:
        wanted = {s.snapshot_id for s in snapshot_ids}
        if not wanted:
            return {}
        snapshots, kept = self._cache.get_or_load(wanted, self._fetch)
        overlays = {o.snapshot_id: o for o in self.get_snapshot_overlays(kept)} if kept else {}
        replaced = set()
        for snapshot_id in kept:
            overlay = overlays.get(snapshot_id)
            if overlay is None:
                del snapshots[snapshot_id]
            elif overlay.belongs_to(snapshots[snapshot_id]):
                overlay.lay_over(snapshots[snapshot_id])
            else:
                replaced.add(snapshot_id)
        if replaced:
            snapshots.update(super().get_snapshots(replaced))
        return snapshots

    def invalidate_environment(self, name: str, protect_prod: bool = True) -> None:  # noqa: ARG002 (SQLMesh's signature)
        # A person's request and no write to the state: the server always protects prod.
        with _sqlmesh_errors():
            self._api.invalidate_environment(name)

    def get_versions(self, validate: bool = True) -> Versions:
        """As SQLMesh's, but what it says of another version ends with what to do here: the server migrates, not a user.

        Raises:
            SQLMeshError: If the project's state is of another version than this machine's SQLMesh.
        """
        try:
            return super().get_versions(validate=validate)
        except SQLMeshError as error:
            wanted = super().get_versions(validate=False)
            said = str(error).split(" Please ")[0]
            raise SQLMeshError(f"{said} Run `pip install sqlmesh=={wanted.sqlmesh_version}` here.") from error

    def recycle(self) -> None:
        """Closes the connections to the server; the next call opens new ones."""
        self._api.close()

    def close(self) -> None:
        """Closes the connections to the server; the next call opens new ones."""
        self._api.close()

    def _fetch(self, snapshot_ids: set[SnapshotId]) -> Collection[Snapshot]:
        return super().get_snapshots(snapshot_ids).values()


def cloud_state(api: Api) -> CloudStateSync:
    """The state of a project, with its snapshots kept in the user's cache directory."""
    folder = user_cache_path("tempomesh") / sha256(api.url.encode()).hexdigest()[:16]
    # Pickles: nobody else may write them.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return CloudStateSync(api, folder)


def _transport(api: Api) -> Transport:
    def send(method: str, body: bytes) -> bytes:
        with _sqlmesh_errors():
            return api.state(method, body)

    return send


@contextmanager
def _sqlmesh_errors() -> Iterator[None]:
    try:
        yield
    except TcloudError as error:
        if error.code == _STATE_ERROR:
            raise _sqlmesh_error(error) from None
        raise


def _sqlmesh_error(error: TcloudError) -> Exception:
    kind = getattr(errors, error.error_type or "", SQLMeshError)
    if isinstance(kind, type) and issubclass(kind, SQLMeshError):
        try:
            return kind(str(error))
        except TypeError:
            # It takes more than a message, and the message is all there is.
            pass
    return SQLMeshError(str(error))
