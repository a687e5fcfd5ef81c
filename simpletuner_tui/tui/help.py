"""What F1 shows: everything there is to say about a question, and the keys."""

from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.session import Session
from simpletuner_tui.text import table

OF_EVERY_SCREEN = (
    ("Enter, F3", "takes what stands in the field and goes on"),
    ("F2", "the question before; every answer is kept"),
    ("F4", "keeps what is left at its default, and reviews"),
    ("F5", "help, the file as it grows, the cost: in turn"),
    ("F6", "the focus goes to the steps, the panes, and back"),
    ("F7", "the fastest setting that fits a card"),
    ("F8", "builds DeepSpeed's whole configuration, where it is used"),
    ("F9", "another card to hold the cost against"),
    ("F10", "measures this machine, for the seconds of a step"),
    ("Tab", "the next part that takes keys"),
    ("Ctrl+P", "jumps to any question, by a word of it or its id"),
    ("Ctrl+G", "the GPUs, host memory and disks, and what the plan takes of them"),
    ("Ctrl+O", "home: set-ups, drafts, runs; answers are kept as a draft"),
    ("Ctrl+Q", "leaves; what is not saved is kept as a draft"),
)
OF_RUNS = frozenset({"F7", "F8", "F9", "F10", "Ctrl+O"})
"""Those that are there where the walk ends in a run."""
OF_MENUS = (
    ("arrows", "move"),
    ("letters, digits", "the next row that begins so; else a digit counts from 0"),
    ("/", "filters a long list"),
)
OF_KIND = {
    Kind.MENU: OF_MENUS,
    Kind.YES_NO: (("arrows, y, n", "move"),),
    Kind.PATH: (("Tab", "completes, as in a shell"),),
    Kind.REPEAT: (("Backspace", "on an empty line takes the last one back"),),
}


def help_text(session: Session, *, launches: bool) -> str:
    """All about the question that is shown now.

    Args:
        session: a walk.
        launches: whether it ends in a run.
    """
    question, context = session.current, session.resolved.context
    assert question is not None
    lines = [question.text_in(context).strip(), "", question.help or "There is no more to say about this one."]
    if question.asks:
        lines += [f"{row.label.strip()}: not here: {row.unavailable}" for row in session.choices() if row.unavailable]
    keys = OF_KIND.get(question.kind, ())
    named, hidden = {key for key, _ in keys}, frozenset() if launches else OF_RUNS
    keys += tuple((key, what) for key, what in OF_EVERY_SCREEN if key not in named | hidden)
    return "\n".join([*lines, "", "Keys", "----", *table(keys)])
