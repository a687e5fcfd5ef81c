"""``python -m harness.rank MODULE JOB``: one process of a group, which does what ``MODULE.main`` does with a job."""

import importlib
import sys

from launcher.imports import without_collecting


def main() -> None:
    module = sys.argv.pop(1)
    with without_collecting():
        do = importlib.import_module(module).main
    do()


if __name__ == "__main__":
    main()
