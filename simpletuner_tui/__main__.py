"""``python -m simpletuner_tui``: the command line, for whoever has an interpreter and no ``PATH``."""

import sys

from simpletuner_tui.cli import main

if __name__ == "__main__":
    sys.exit(main())
