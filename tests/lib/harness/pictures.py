"""Every picture of a screen: what it is called, and how it is drawn."""

from collections.abc import Callable, Mapping
from functools import partial

from harness import builder_screens, run_screens, screens

PICTURES: Mapping[str, Callable[[], str]] = {
    table.file_name(scenario, size): partial(table.draw, scenario, size)
    for table in (screens, builder_screens, run_screens)
    for scenario in table.SCENARIOS
    for size in scenario.sizes
}
"""By file name in screenshots/: draws the SVG."""
