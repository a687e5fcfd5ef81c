"""``templates``: listed, shown, compared, kept, given away and taken back."""

import json
from pathlib import Path

import pytest

from simpletuner_tui.cli import main

CONFIG = {"zero_optimization": {"stage": "zero2"}, "gradient_clipping": 0.5}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    Path("ds.json").write_text(json.dumps(CONFIG))
    return tmp_path


@pytest.fixture
def run(capsys):
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["templates", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_those_that_come_with_the_program_are_listed_with_what_was_corrected(run):
    code, out, err = run()
    assert (code, err) == (0, "")
    assert out.startswith("stage-2-cpu\n  SimpleTuner's first example: stage 2 with the optimizer on the CPU")
    assert "  Corrected: zero_optimization.offload_param is left out: at stage 2 DeepSpeed ignores it.\n" in out
    told = json.loads(run("--json")[1])
    assert [(each["name"], each["built_in"], bool(each["corrected"])) for each in told] == [
        ("stage-2-cpu", True, True),
        ("stage-3-nvme", True, True),
    ]


def test_one_is_shown_as_json_that_can_be_redirected(run):
    code, out, err = run("show", "stage-3-nvme")
    assert code == 0
    assert json.loads(out)["zero_optimization"]["offload_optimizer"]["device"] == "nvme"
    assert "Corrected: " in err


def test_a_file_is_kept_listed_compared_given_away_taken_back_and_removed(run):
    assert run("save", "mine", "ds.json", "--description", "For the small card.")[0] == 0
    assert "mine\n  For the small card.\n" in run()[1]
    assert json.loads(run("show", "mine")[1]) == CONFIG
    code, out, _ = run("diff", "stage-2-cpu", "ds.json")
    assert code == 0
    assert "changed: gradient_clipping: 0.5 to 1.0\n" in out
    assert "stage" not in out.partition("offload_optimizer")[0], "zero2 is stage 2, however it is spelled"
    assert run("diff", "mine", "ds.json")[1:] == ("", "ds.json says what mine says\n")
    assert run("export", "mine", "out.json")[0] == 0
    assert run("remove", "mine")[0] == 0
    assert "mine" not in run()[1]
    assert run("import", "out.json", "--as", "yours")[0] == 0
    assert json.loads(run("show", "yours")[1]) == CONFIG


def test_nothing_is_replaced_unless_it_is_asked_for(run):
    run("save", "mine", "ds.json")
    code, _, err = run("save", "mine", "ds.json")
    assert (code, "a template mine is there already" in err, "--force replaces it" in err) == (4, True, True)
    assert run("save", "mine", "ds.json", "--force")[0] == 0
    code, _, err = run("export", "mine", "ds.json")
    assert (code, "--force replaces it, and keeps it as ds.json.bak" in err) == (4, True)
    assert run("export", "mine", "ds.json", "--force")[0] == 0
    assert json.loads(Path("ds.json.bak").read_text()) == CONFIG
    assert run("export", "mine", "ds.json")[0] == 0, "it is there already"
    assert run("import", "ds.json")[0] == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "x"), "no template is called x; there are stage-2-cpu, stage-3-nvme"),
        (("diff", "stage-2-cpu", "x.json"), "x.json cannot be read"),
        (("save", "stage-2-cpu", "ds.json"), "comes with the program; choose another name"),
        (("save", "a/b", "ds.json"), "cannot name a template"),
        (("remove", "stage-2-cpu"), "only saved templates are removed"),
        (("import", "ds.json"), "ds.json is no template"),
        (("export", "stage-2-cpu", "no/such.json"), "is not a folder"),
        (("fly",), "invalid choice"),
    ],
)
def test_what_cannot_be_says_why(run, arguments, words):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert not Path("state").exists()
