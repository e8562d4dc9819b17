"""Whom SQLMesh notifies, built of a configuration as its `Context` does it."""

import logging
import typing as t
from collections import defaultdict
from collections.abc import Callable

from sqlmesh.core.config import Config
from sqlmesh.core.notification_target import NotificationEvent, NotificationTarget, NotificationTargetManager

__all__ = ["Notifications"]

_log = logging.getLogger(__name__)
_OF_PLANS = (NotificationEvent.APPLY_START, NotificationEvent.APPLY_END, NotificationEvent.APPLY_FAILURE)
_OF_RUNS = (NotificationEvent.RUN_START, NotificationEvent.RUN_END, NotificationEvent.RUN_FAILURE)


class Notifications(NotificationTargetManager):
    """SQLMesh's manager of targets; one that cannot be reached stops nobody's work.

    Args:
        config: What the process's environment says.
        warn: Is told of a target that could not be reached.
    """

    def __init__(self, config: Config, warn: Callable[[str], None]):
        self._warn = warn
        by_event: defaultdict[NotificationEvent, set[NotificationTarget]] = defaultdict(set)
        for target in config.notification_targets:
            if target.is_configured:
                for event in target.notify_on:
                    by_event[event].add(target)
        users = {user.username: user for user in config.users}.values()
        by_user = {user.username: {t for t in user.notification_targets if t.is_configured} for user in users}
        super().__init__(by_event, by_user, username=config.username)

    @property
    def subjects(self) -> list[str]:
        """What anybody is told of, `plan` and `run` among it; of audits it is told without asking."""
        return [what for what, events in (("plan", _OF_PLANS), ("run", _OF_RUNS)) if any(map(self._has_target, events))]

    def _has_target(self, event: NotificationEvent) -> bool:
        if self.username:
            targets = self.user_notification_targets.get(self.username, set())
            return any(event in target.notify_on for target in targets)
        return bool(self.notification_targets.get(event))

    def _get_notification_function(
        self, notification_target: NotificationTarget, event: NotificationEvent
    ) -> Callable[..., None]:
        send = super()._get_notification_function(notification_target, event)

        def notify(*args: t.Any, **kwargs: t.Any) -> None:
            try:
                send(*args, **kwargs)
            except Exception as error:
                # Not the error's text: clients of chat services put the address, which is a secret, into it.
                reason = f"{notification_target.type_} was not notified of {event.value}: {type(error).__name__}"
                _log.warning(reason)
                self._warn(reason)

        return notify
