"""How it is asked where a run is followed."""

from simpletuner_tui.questions.conditions import Is, Not
from simpletuner_tui.questions.training.topic import Topic

TRACKED = Not(Is("training.report_to", "none"))

TRACKING = Topic(
    section="Tracking",
    texts={
        "report_to": "Where should the run be followed besides its own events?",
        "tracker_project_name": "To which project does it belong there?",
        "tracker_run_name": "What should the run be called there?",
    },
    conditions={"tracker_project_name": TRACKED, "tracker_run_name": TRACKED},
)
