"""Which models of an environment `--select-model` means, told from state alone: no project is needed."""

from collections.abc import Sequence

from sqlmesh.core.state_sync import StateReader

from tcloud.errors import InvalidError, NotFoundError
from tempomesh_runner.selection import ModelSelector, NeedsProjectError, SelectionError

__all__ = ["select_models"]


def select_models(
    state: StateReader,
    environment: str,
    selections: Sequence[str],
    *,
    default_catalog: str | None,
    no_auto_upstream: bool,
) -> list[str]:
    """Expands `--select-model` as `Context._select_models_for_run` does, with SQLMesh's own selectors.

    Args:
        state: The project's state.
        environment: Whose models are meant.
        selections: What was given: names, wildcards, `tag:`, `+model+`, and what combines them.
        default_catalog: The default catalog that the environment was planned with.
        no_auto_upstream: Whether models upstream of the selected ones are left out.

    Returns:
        Fully qualified names, sorted.

    Raises:
        InvalidError: If a selection cannot be read, needs a project, or no model matches it.
        NotFoundError: If there is no such environment.
    """
    stored = state.get_environment(environment)
    if stored is None:
        raise NotFoundError(f"Environment '{environment}' was not found.")
    selector = ModelSelector(state.get_snapshots(stored.snapshots).values(), state, default_catalog)
    # One by one, to be able to say which of them means nothing; SQLMesh takes all of them together.
    selected = set().union(*(_expand(selector, selection, environment) for selection in selections))
    return sorted(selected if no_auto_upstream else selector.with_upstream(selected))


def _expand(selector: ModelSelector, selection: str, environment: str) -> set[str]:
    try:
        found = selector.expand(selection)
    except NeedsProjectError as error:
        raise InvalidError(
            f"--select-model '{selection}' needs the project's files: use `tcloud sqlmesh run` in its folder."
        ) from error
    except SelectionError as error:
        raise InvalidError(f"--select-model '{selection}' cannot be read: {error}") from error
    if not found:
        raise InvalidError(
            f"--select-model '{selection}' matches no model of environment '{environment}'. "
            "Write a model's name as in `schema.model`; `*`, `tag:name`, `+model` and `model+` are understood."
        )
    return found
