"""What should not be written down."""

from launcher.config.rules.launch import Rule
from launcher.config.setting import Level

NOTIFICATION: tuple[Rule, ...] = (
    Rule(
        "webhook-is-secret",
        "training.notify_webhook",
        "seems to hold a token, and is kept in the answers and the run directory, where others may read it; leave it "
        "empty and set SIMPLETUNER_NOTIFY_WEBHOOK in the environment before the start",
        lambda launch, ds, training: training.notification.webhook_is_secret,
        source="Slack's and Discord's documentation: whoever has the address can post",
        level=Level.WARNING,
    ),
)
