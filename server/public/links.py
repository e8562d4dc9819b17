"""Absolute addresses of what the public API speaks of."""

from dataclasses import dataclass
from urllib.parse import quote, urlencode

__all__ = ["Links"]


@dataclass(frozen=True)
class Links:
    """Addresses below a project's URL."""

    project_url: str

    def environment(self, environment: str) -> str:
        """An environment."""
        return f"{self.project_url}/environments/{quote(environment, safe='')}"

    def model(self, environment: str, model: str, version: str | None) -> str:
        """A model in an environment."""
        link = f"{self.environment(environment)}/models/{quote(model, safe='')}"
        return f"{link}?{urlencode({'version': version})}" if version else link

    def run(self, environment: str, run_id: str) -> str:
        """A run."""
        return self._owner(environment, "runs", run_id, tab="summary", tab_summary="executions")

    def evaluation(self, environment: str, group: str, owner_id: str, model: str, evaluation_id: str) -> str:
        """An evaluation of a run or plan; `group` is `runs` or `plans`."""
        about = {"tab": "explore", "model_name": model, "evaluation_id": evaluation_id}
        return self._owner(environment, group, owner_id, **about)

    def log(self, environment: str, group: str, owner_id: str, model: str, evaluation_id: str) -> str:
        """The log of an evaluation."""
        return f"{self.evaluation(environment, group, owner_id, model, evaluation_id)}&tab_evaluation=log"

    def _owner(self, environment: str, group: str, owner_id: str, **query: str) -> str:
        return f"{self.environment(environment)}/{group}/{quote(owner_id, safe='')}?{urlencode(query)}"
