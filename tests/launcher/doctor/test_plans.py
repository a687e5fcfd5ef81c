"""A plan on a machine: what is said of it, and that ``check`` and a launch say the same."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest

import launcher.preflight
from harness.doctor import HEALTHY, h200
from harness.fake_model import write_model, write_pictures
from harness.h200 import H200
from launcher.config.accelerate import Machines
from launcher.doctor import Diagnosis, Facts, Group, Planned, Status, examine, exit_code_of
from launcher.errors import ExitCode
from launcher.estimate.total import Part
from launcher.machine.bandwidths import DriveSpeed
from launcher.machine.gpus import Gpus
from launcher.machine.host import Host
from launcher.machine.toolchain import Toolchain
from launcher.plan import Plan
from launcher.preflight import About, Finding, Machine, preflight
from launcher.preflight import exit_code_of as of_launch

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
NVME = {
    "zero_stage": 3,
    "offload_optimizer_device": "nvme",
    "offload_optimizer_nvme_path": "/fast",
    "pretrained_model_name_or_path": SDXL,
}


@pytest.fixture(autouse=True)
def ordinary(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SIMPLETUNER_TUI_UNSAFE_NVME", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 0)


@pytest.fixture
def small(tmp_path, plan_of):
    """A plan of a tiny model and four pictures, in which nothing is wrong."""
    write_model(tmp_path / "model")
    write_pictures(tmp_path / "pictures")

    def plan(**changed: object) -> Plan:
        model, pictures = str(tmp_path / "model"), str(tmp_path / "pictures")
        given = {"pretrained_model_name_or_path": model, "instance_data_dir": pictures, "resolution": 64}
        return plan_of(**{**given, **changed})

    return plan


def seen(plan: Plan, facts: Facts = HEALTHY, **more: object) -> tuple[dict[str, Diagnosis], ExitCode, ExitCode]:
    """What a doctor says of a plan, what he ends with, and what a launch of it would end with."""
    machine = Machine(
        gpus=lambda: facts.gpus,
        gpu_processes=lambda uuid: (),
        host=lambda: facts.host,
        toolchain=lambda: facts.toolchain,
        missing_for_nvme=lambda toolchain: facts.missing_for_nvme,
        why_not_cuda=lambda: facts.why_not_cuda,
        lockable_mib=lambda: facts.lockable_mib,
        **{
            "why_no_nvme_offload": lambda folder: None,
            "why_not_compiled_for_gpus": lambda: None,
            "is_free": lambda port: True,
            "which": lambda name: None,
            **more,
        },
    )
    found = examine(facts, Planned(plan, tuple(preflight(plan, machine)), "a.json"))
    assert len({each.id for each in found}) == len(found)
    launched = of_launch(preflight(plan, machine))
    return {each.id: each for each in found}, exit_code_of(found), launched


def of_several(plan: Plan, **changed: object) -> Plan:
    machines = Machines(count=2, rank=0, main_process_ip="10.0.0.1", main_process_port=29500)
    launch = replace(plan.settings.launch, num_processes=2, machines=replace(machines, **changed))
    return replace(plan, settings=replace(plan.settings, launch=launch))


def priced(plan: Plan, **changed: object) -> Plan:
    return replace(plan, estimate=replace(plan.estimate, **changed))


TINY_GPU = replace(HEALTHY, gpus=Gpus((replace(h200(0, 4096), total_mib=4096),), driver="580"))
LITTLE_RAM = replace(HEALTHY, host=Host(16 * 1024, 15 * 1024, 8))
BARE = replace(HEALTHY, toolchain=Toolchain(None, True, "/ninja"), missing_for_nvme=("g++", "libaio-dev"))
AGAIN = "simpletuner-tui --replay a.json --set"
HUGE = (Part("checkpoints", 2**40),)

AGAINST = {
    "gpu": ({"num_processes": 4}, HEALTHY, {}, f"{AGAIN} accelerate.num_processes=2"),
    "gpu-memory": ({"pretrained_model_name_or_path": SDXL}, TINY_GPU, {}, "simpletuner-tui plan --resolution 64"),
    "host-memory": ({"pretrained_model_name_or_path": SDXL}, LITTLE_RAM, {}, "simpletuner-tui plan --resolution 64"),
    "extension": ({"optimizer.type": "Lion"}, BARE, {}, "apt install g++"),
    "tracker": ({"report_to": "wandb"}, HEALTHY, {"has_package": lambda name: False}, "pip install wandb"),
    "nvme-drive": (NVME, HEALTHY, {"why_no_nvme_offload": lambda folder: "the drive vda wants 512"},
                   f"{AGAIN} deepspeed.zero_optimization.offload_optimizer.nvme_path=DIR"),
    "async-io": (NVME, BARE, {}, "apt install g++ libaio-dev"),
    "memlock": (NVME, replace(HEALTHY, lockable_mib=8), {}, "ulimit -l unlimited"),
}  # fmt: skip


@pytest.mark.parametrize(("about", "case"), AGAINST.items(), ids=AGAINST)
def test_what_stops_a_plan_here_stops_its_launch_too(small, about, case):
    changed, facts, more, mend = case
    found, ends, launched = seen(priced(small(**changed), disk=()), facts, **more)
    told = found[f"plan-{about}"]
    assert (told.status, told.group, mend in told.mend, bool(told.why)) == (Status.ERROR, Group.PLAN, True, True), told
    assert ends is launched is ExitCode.CANNOT_RUN_HERE
    well = small(**({"report_to": "wandb"} if about == "tracker" else NVME if changed is NVME else {}))
    found, ends, launched = seen(priced(well, disk=()), HEALTHY, has_package=lambda name: True)
    assert {each.status for each in found.values()} <= {Status.OK, Status.NOTE}
    assert ends is launched is ExitCode.OK


def test_a_plan_in_which_nothing_is_wrong_has_its_figures(small):
    found, ends, launched = seen(small())
    assert ends is launched is ExitCode.OK
    told = {name: each.what for name, each in found.items() if each.group is Group.PLAN and each.status is Status.OK}
    assert set(told) == {"plan-gpu-memory", "plan-host-memory", "plan-disk"}
    assert told["plan-gpu-memory"].endswith(" of 139.8 GiB free on GPU 0")
    assert told["plan-host-memory"].endswith(" of 250.0 GiB available")
    assert told["plan-disk"].endswith(" free where the run lies")


def test_a_disk_without_room_is_told(small):
    found, ends, launched = seen(priced(small(), disk=HUGE))
    assert "needs 1073741824.0 GiB" in found["plan-disk"].what
    assert found["plan-disk"].mend[0] == f"{AGAIN} training.output_dir=DIR"
    assert ends is launched is ExitCode.CANNOT_RUN_HERE


@pytest.mark.parametrize(
    ("field", "mend"),
    [
        ("training.output_dir", (f"{AGAIN} training.output_dir=DIR", f"{AGAIN} training.checkpoints_total_limit=1")),
        ("training.cache_dir", (f"{AGAIN} training.cache_dir=DIR",)),
        ("accelerate.optimizer_nvme", (f"{AGAIN} accelerate.optimizer_nvme=DIR",)),
        ("--run-dir", ("simpletuner-tui --replay a.json --run-dir DIR",)),
        ("accelerate.ds_json", ()),
    ],
)
def test_the_folder_that_has_no_room_is_the_one_to_be_chosen_anew(small, field, mend):
    full = Finding(field, "is full", exit_code=ExitCode.CANNOT_RUN_HERE, forceable=True, about=About.DISK)
    found = {each.id: each for each in examine(HEALTHY, Planned(small(), (full,), "a.json"))}
    assert found["plan-disk"].mend == mend


def test_a_port_in_use_is_told_on_the_machine_where_the_others_meet(small):
    plan = of_several(small())
    found, ends, launched = seen(plan, is_free=lambda port: port != 29500)
    assert found["plan-port"].what.startswith("accelerate.main_process_port: port 29500 of this machine")
    assert found["plan-port"].mend == (f"{AGAIN} accelerate.main_process_port=PORT",)
    assert ends is launched is ExitCode.CANNOT_RUN_HERE
    found, ends, _ = seen(plan)
    assert (found["plan-port"].what, ends) == ("29500 is free", ExitCode.OK)
    elsewhere, ends, _ = seen(of_several(small(), rank=1), is_free=lambda port: False)
    assert ("plan-port" in elsewhere, ends) == (False, ExitCode.OK)


def test_machines_without_pdsh_are_told(small, tmp_path):
    (tmp_path / "hosts").write_text("a slots=1\nb slots=1\n")
    plan = of_several(small(), launcher="pdsh", hostfile=str(tmp_path / "hosts"))
    found, ends, _ = seen(plan)
    assert (found["plan-pdsh"].mend, ends) == (("apt install pdsh",), ExitCode.CANNOT_RUN_HERE)
    assert "plan-pdsh" not in seen(plan, which=lambda name: f"/usr/bin/{name}")[0]


@pytest.mark.parametrize(
    "reason", ["CUDA's compiler (nvcc) is not found", "DeepSpeed cannot read `9.0a` in TORCH_CUDA_ARCH_LIST"]
)
def test_nvme_offload_from_a_gpu_is_compiled_with_cuda(small, reason):
    plan = priced(small(**NVME), disk=())
    found, ends, launched = seen(plan, why_not_compiled_for_gpus=lambda: reason)
    assert reason in found["plan-async-io"].what
    assert ends is launched is ExitCode.CANNOT_RUN_HERE
    without = replace(HEALTHY, gpus=Gpus((), "none"))
    assert "plan-async-io" not in seen(plan, without, why_not_compiled_for_gpus=lambda: reason)[0]


def test_what_is_offloaded_to_a_drive_that_cannot_take_it_goes_to_memory_instead(small):
    both = {**NVME, "offload_param_device": "nvme", "offload_param_nvme_path": "/fast"}
    for changed, sets in (
        (NVME, "--set accelerate.offload_optimizer=cpu"),
        (both, "--set accelerate.offload_optimizer=cpu --set accelerate.offload_param=cpu"),
        ({**both, "offload_optimizer_device": "cpu"}, "--set accelerate.offload_param=cpu"),
    ):
        plan = priced(small(**changed), disk=())
        found, *_ = seen(plan, why_no_nvme_offload=lambda folder: "the drive vda wants 512")
        assert found["plan-nvme-drive"].mend[1] == f"simpletuner-tui --replay a.json {sets}"


def test_an_offload_path_has_its_room_its_filesystem_and_its_speed(small, tmp_path, monkeypatch):
    folder = str(tmp_path / "swap")
    plan = small(**{**NVME, "offload_optimizer_nvme_path": folder})
    monkeypatch.setattr("launcher.doctor.plan.free_bytes", lambda folder: 2**40)
    found, *_ = seen(plan)
    space, speed = found["plan-offload-space"], found["plan-offload-speed"]
    assert (space.status, space.what.startswith(f"{folder}: 38.3 GiB of ")) == (Status.OK, True)
    assert " free, " in space.what
    assert (speed.status, speed.what) == (Status.NOTE, f"{folder} is not measured")
    assert speed.why == "a step moves 41 GB each way, and waits for it"
    assert speed.mend[0].endswith(f" --nvme {folder}")
    drive = DriveSpeed(folder, write_gb_s=3.4, read_gb_s=6.9)
    monkeypatch.setattr("launcher.doctor.plan.speed_here", lambda settings: replace(H200, drive=drive))
    speed = seen(plan)[0]["plan-offload-speed"]
    assert (speed.status, speed.what) == (Status.OK, "6.9 GB/s read, 3.4 written")
    monkeypatch.setattr("launcher.doctor.plan.free_bytes", lambda folder: 2**30)
    assert seen(plan)[0]["plan-offload-space"].status is Status.NOTE, "more than is free is not called well"


def test_on_a_cpu_nobody_cares_about_gpus(small):
    broken = replace(HEALTHY, torch_cuda="")
    found, ends, launched = seen(small(), broken)
    assert (found["driver"].status, ends, launched) == (Status.ERROR, ExitCode.CANNOT_RUN_HERE, ExitCode.OK)
    found, ends, launched = seen(small(use_cpu=True), broken)
    assert (found["driver"].status, ends, launched) == (Status.NOTE, ExitCode.OK, ExitCode.OK)
    assert found["plan-gpu"].what == "trains on the CPU, as chosen"


def test_faults_of_the_answers_are_checks_to_tell(small):
    found, ends, launched = seen(small(instance_data_dir="/nowhere"))
    told = found["plan-answers"]
    assert (told.status, told.mend) == (Status.WARNING, ("simpletuner-tui check a.json",))
    assert told.what == "1 fault of the answers, their model, pictures or run directory"
    assert (ends, launched) == (ExitCode.OK, ExitCode.USAGE)
    found, *_ = seen(small(checkpoint_contents="weights"))
    assert (found["plan-answers"].status, found["plan-answers"].why) == (
        Status.NOTE,
        "a launch tells them, and goes on",
    )


def test_whatever_a_machine_refuses_says_what_of_it_so_that_a_doctor_tells_it():
    calls = [
        node
        for path in Path(launcher.preflight.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding"
    ]
    here = [call for call in calls if "CANNOT_RUN_HERE" in ast.unparse(call) or "exit_code=code" in ast.unparse(call)]
    here = [call for call in here if "REFUSED" not in ast.unparse(call)]
    without = [ast.unparse(call) for call in here if "about" not in {word.arg for word in call.keywords}]
    assert len(here) >= 12
    # A run directory that is taken is no fault of the machine's.
    assert [call for call in without if "--run-dir" not in call] == []
