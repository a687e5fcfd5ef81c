"""How fast the wizard is: its first screen beside a bare Textual app's, a key press to a repainted question, and
what a step costs on the wire.

    python benchmarks/first_screen.py [ROUNDS]

Both apps start in turn, in pseudo-terminals of 80 columns and 24 rows, so that what else the machine does weighs on
both alike.
"""

import asyncio
import gc
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/lib"))

from harness.runs import CLI
from harness.terminal import Terminal

BARE = """
from textual.app import App
from textual.widgets import Footer, Input, Static
class Bare(App):
    def compose(self):
        yield Static("Which SDXL model should be fine-tuned?")
        yield Input()
        yield Footer()
Bare().run()
"""
DRAWN = "Which SDXL model should be fine-tuned?"
LIKE_SSH = {"TERM": "xterm-256color", "COLORTERM": "", "PYTHONDONTWRITEBYTECODE": ""}
"""As over SSH, and compiled once, as an installed package is."""
WIZARD = (CLI, "--preset", "fits-12GB")
"""With something to begin from, so that it does not ask what to start from."""
MOST = 2.0
"""The first screen may take so many times as long as the bare app's."""


def first_screen(*command: str, drawn: str = DRAWN) -> float:
    """Seconds from the start of the process until a text stands there."""
    begun = time.perf_counter()
    terminal = Terminal(*command, **LIKE_SSH)
    try:
        terminal.read_until(drawn)
        return time.perf_counter() - begun
    finally:
        terminal.close()


def bytes_of_steps() -> tuple[int, list[int], int]:
    """Bytes of the first screen, of each step after it, and of five idle seconds."""
    terminal = Terminal(*WIZARD, **LIKE_SSH)
    try:
        terminal.read_until(DRAWN)
        terminal.quiet(1.0)
        first, steps = len(terminal.seen.encode()), []
        for keys in ("./m\r", "\r", "\r", "./p\r", *["\r"] * 12):
            terminal.forget()
            terminal.type(keys)
            terminal.quiet(0.5)
            steps.append(len(terminal.seen.encode()))
        terminal.forget()
        terminal.read_for(5.0)
        return first, steps, len(terminal.seen.encode())
    finally:
        terminal.close()


async def keys_to_questions() -> list[float]:
    """Milliseconds of this process's own time from Enter to the question after it, over the whole registry."""
    from harness.wizard import Wizard
    from simpletuner_tui.questions import REGISTRY

    answers = {
        "training.pretrained_model_name_or_path": "./model",
        "training.instance_data_dir": "./pictures",
        "accelerate.use_deepspeed": True,
    }
    taken = []
    gc.freeze()  # as the command does once all is loaded
    async with Wizard(REGISTRY, answers) as wizard:
        screen, asking = wizard.screen, [question for question in wizard.session.resolved.asked if question.asks]
        for question in asking[:-1]:
            wizard.session.go_to(question.id)
            await screen.show()
            await wizard.press()
            begun = time.process_time()
            wizard.session.accept_default()
            await screen.show()
            while screen._dirty_widgets or screen._layout_required or screen._compositor._dirty_regions:
                await asyncio.sleep(0)
            taken.append((1000 * (time.process_time() - begun), question.id))
    taken.sort()
    print("slowest          " + ", ".join(f"{name} {took:.0f} ms" for took, name in taken[-3:]))
    return [took for took, _ in taken]


def main() -> int:
    """Returns 1 when the first screen is more than twice as slow as the bare app's."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["XDG_STATE_HOME"] = f"{folder}/state"
        first_screen(*WIZARD), first_screen(sys.executable, "-c", BARE)  # compiled and cached from here on
        pairs = [(first_screen(*WIZARD), first_screen(sys.executable, "-c", BARE)) for _ in range(rounds)]
        ours, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)  # neighbours meet the same load
        print(f"first screen     ours {ours:.2f} s, bare Textual {bare:.2f} s, ratio {ratio:.2f} (most {MOST})")
        home = statistics.median(first_screen(CLI, drawn="Start anew") for _ in range(rounds))
        print(f"home             {home:.2f} s")
        taken = asyncio.run(keys_to_questions())
        p50, p95 = taken[len(taken) // 2], taken[int(0.95 * len(taken))]
        print(f"key to question  p50 {p50:.0f} ms, p95 {p95:.0f} ms of our own time, {len(taken)} questions")
        first, steps, idle = bytes_of_steps()
        print(
            f"on the wire      first {first:,} B, a step {statistics.median(steps):,.0f} B (most {max(steps):,}), "
            f"5 s idle {idle} B"
        )
        os.chdir("/")
    return int(ratio > MOST)


if __name__ == "__main__":
    sys.exit(main())
