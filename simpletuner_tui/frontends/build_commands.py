"""What a person may say in the DeepSpeed builder besides values."""

USAGE = (
    ("Enter", "keeps what is there and goes on"),
    ("back", "the field before"),
    ("rest", "keeps all that is left"),
    ("? or help", "these commands, and all about this field"),
    ("unset, unset FIELD", "leaves a field out: DeepSpeed's default or the run counts"),
    ("set FIELD VALUE", "any field, by its path or its last word; a value that is a command's word, too"),
    ("set FIELD", "asks that field now"),
    ("search WORD", "fields by path and meaning"),
    ("review", "what is set, what was changed, what is wrong"),
    ("problems", "what is wrong alone"),
    ("show", "the JSON"),
    ("templates, use NAME", "saved configurations; one of them in place of this one"),
    ("save, save FILE", "shows what would change, and writes it"),
    ("apply", "on a walk's answers: makes answers of it"),
    ("quit", "leaves without saving"),
)
ALONE = frozenset(
    ("back", "rest", "?", "help", "unset", "review", "problems", "show", "templates", "save", "apply", "quit")
)
"""Commands that stand alone; what follows such a word makes it a value, but for the next."""
FOLLOWED = frozenset(("unset", "set", "search", "use", "save"))
"""Commands that something follows."""

COMMANDS = (
    "Enter keeps what is in brackets. back, rest (keep all that is left), ? (help), review, set FIELD VALUE, search "
    "WORD, show, save and quit are understood."
)
END = "review, set FIELD VALUE, back, ? (help) or quit: "
"""Asked once every field was, after what ends it."""


def command_in(typed: str) -> tuple[str, str] | None:
    """A command and what follows it; None where what was typed is none."""
    word, _, rest = typed.strip().partition(" ")
    word, rest = word.lower(), rest.strip()
    return (word, rest) if word in (FOLLOWED if rest else ALONE) else None
