"""``python screenshots/page.py``: starts the demo in a page of ``serve`` and keeps a picture of it as serve.png.

Unlike the others it is a photograph: no two are the same, and nothing compares it.
``make demo`` must have made the assets.
"""

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "lib"))

from harness.chromium import Chromium  # noqa: E402 - the tests' own browser
from harness.runs import end_run  # noqa: E402
from harness.serving import Served, keep_draft, launch_in_page, step_shown  # noqa: E402

ASSETS = HERE.parent / "examples/demo/assets"
STEPS = 100


def main() -> None:
    """Waits until there is something to see."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keep_draft(folder)
        served, browser = Served(folder), Chromium(folder / "profile", width=1000, height=600)
        try:
            run = launch_in_page(browser, served.url, folder, ASSETS)
            browser.until(lambda: step_shown(browser) >= STEPS, 600)
            browser.screenshot(HERE / "serve.png")
            end_run(run)
        finally:
            browser.close()
            served.close()


if __name__ == "__main__":
    main()
