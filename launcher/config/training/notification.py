"""Who is told when a run ends or dies."""

import re
from dataclasses import dataclass

from launcher.config.setting import setting

_PASSWORD = re.compile(r"https?://[^/]*@")
_TOKEN = re.compile(r"https?://[^/]*/(?:.*[/=:])?[A-Za-z0-9_\-]{20,}(?:[/?&#.]|$)")
"""A part behind the host that is too long to be a name: Slack's and Discord's tokens are."""


@dataclass(frozen=True, slots=True)
class NotificationSettings:
    """Who is told when a run ends or dies."""

    notify_command: str = setting(
        "",
        "A shell command on the run's first machine when the run has ended or died. RUN_NAME, RUN_DIR, RESULT "
        "(completed, stopped, failed), EXIT_CODE and MESSAGE are in its environment; what it prints goes to the run's "
        "log, and after a minute it is ended. Empty: none.",
    )
    notify_webhook: str = setting(
        "",
        "An http or https address that then gets a JSON object by POST: text and content, as Slack, Mattermost and "
        "Discord show them, and run, path, host, result, exit_code, message. It is kept with the answers: set an "
        "address that holds a token as SIMPLETUNER_NOTIFY_WEBHOOK in the environment instead, which holds over this "
        "one and is written nowhere.",
        pattern=r"|https?://[^\s/]+(/\S*)?",
        expected="empty or an address that begins with http:// or https://",
    )

    @property
    def webhook_is_secret(self) -> bool:
        """Whether the address looks as if whoever has it could post to it."""
        return any(pattern.match(self.notify_webhook) for pattern in (_PASSWORD, _TOKEN))
