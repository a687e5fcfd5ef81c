"""What an app process knows of being served."""

import os

WEB_DRIVER = "textual.drivers.web_driver:WebDriver"
"""What textual-serve asks its processes to draw with, in ``TEXTUAL_DRIVER``."""


def in_a_browser() -> bool:
    """Whether a person is at the other end of this process' pipes, in a page that draws like a terminal."""
    return os.environ.get("TEXTUAL_DRIVER") == WEB_DRIVER
