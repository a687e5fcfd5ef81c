"""Another accelerate may ask other questions: then the registry has to follow."""

import copy
import json
from pathlib import Path

from harness.accelerate_source import asked, changed

KNOWN = json.loads(Path(__file__).with_name("accelerate_1.15.0_questions.json").read_text(encoding="utf-8"))


def test_the_installed_accelerate_asks_what_the_registry_was_written_for():
    now = asked()
    assert not changed(KNOWN, now), f"accelerate {now['accelerate']} asks otherwise than {KNOWN['accelerate']}"


def test_what_another_accelerate_asks_otherwise_is_listed():
    now = copy.deepcopy(KNOWN)
    ask = now["cluster.py"][0]
    now["cluster.py"][0] = ask.replace("type of machine", "kind of machine")
    now["rows"]["TORCH_DYNAMO_MODES"] = "['default']"
    lines = changed(KNOWN, now)
    assert lines == [
        f"cluster.py: no longer {ask}",
        f"cluster.py: now {now['cluster.py'][0]}",
        "rows: no longer ('TORCH_DYNAMO_MODES', \"['default', 'reduce-overhead', 'max-autotune']\")",
        "rows: now ('TORCH_DYNAMO_MODES', \"['default']\")",
    ]
