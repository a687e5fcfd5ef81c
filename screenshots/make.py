"""``python screenshots/make.py``: draws every screen anew; ``--check`` only says which are stale, and fails."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "lib"))

from harness.pictures import PICTURES  # noqa: E402 - the tests' own table


def main() -> int:
    """Returns 1 when ``--check`` finds a stale picture."""
    check, stale = sys.argv[1:] == ["--check"], []
    for name, draw in PICTURES.items():
        path, svg = HERE / name, draw()
        if path.exists() and path.read_text() == svg:
            continue
        stale.append(path.name)
        if not check:
            path.write_text(svg)
    print("\n".join(stale) or "all are as they should be")  # noqa: T201
    if check and stale:
        print("stale: draw them anew with `python screenshots/make.py`, and look at them")  # noqa: T201
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
