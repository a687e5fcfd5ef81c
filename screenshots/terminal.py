"""``python screenshots/terminal.py OUT.svg COMMAND…``: runs a command in a terminal and draws what it left there."""

import io
import os
import pty
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 100


def run(command: list[str]) -> str:
    """Everything the command wrote to a terminal of its own."""
    written = bytearray()

    def read(terminal: int) -> bytes:
        chunk = os.read(terminal, 1 << 16)
        written.extend(chunk)
        return chunk

    os.environ.update(COLUMNS=str(COLUMNS), LINES="40", TERM="xterm-256color")
    status = pty.spawn(command, read)
    if status:
        sys.exit(os.waitstatus_to_exitcode(status))
    return written.decode("utf-8", "replace")


def left_on_screen(written: str) -> list[str]:
    """The lines as they stand at the end: a carriage return starts a line over."""
    lines = []
    for line in written.replace("\r\n", "\n").split("\n"):
        parts = [part for part in line.split("\r") if part.strip()]
        lines.append(parts[-1].rstrip() if parts else "")
    return lines


def main() -> None:
    """Draws the SVG."""
    out, command = Path(sys.argv[1]), sys.argv[2:]
    lines = left_on_screen(run(command))
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), legacy_windows=False)
    console.print(Text(f"$ {shlex.join(command)}", style="bold"))
    for line in lines:
        console.print(Text(line), soft_wrap=False)
    out.write_text(console.export_svg(title="simpletuner-tui"))


if __name__ == "__main__":
    main()
