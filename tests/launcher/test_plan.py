"""A plan: the files of a run directory, its command line and environment, as accelerate and DeepSpeed take them."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import yaml

from harness.fake_model import write_model, write_pictures
from harness.h200 import H200
from launcher.config.accelerate import Machines
from launcher.config.nccl import NCCL_SIZES, has_few_channels
from launcher.config.setting import Level
from launcher.estimate import SDXL
from launcher.judge import judge
from launcher.machine.bandwidths import DriveSpeed, bandwidths_file, this_hardware
from launcher.machine.host import Host, read_host
from launcher.plan import PACKAGES, make_plan
from launcher.runs.directory import create

ANSWERS = b'{"schema": 1}\n'
FILES = {"answers.json", "accelerate.yaml", "deepspeed.json", "training.json", "plan.json"}


# files


def test_a_plan_has_every_file_of_a_run_directory_and_writes_none(plan_of, tmp_path):
    plan = plan_of()
    assert set(plan.files) == FILES
    assert list(tmp_path.iterdir()) == []


def test_the_answers_lie_there_as_they_are(make_settings, tmp_path):
    assert make_plan(make_settings(), ANSWERS, tmp_path / "run").files["answers.json"] == ANSWERS


def test_equal_answers_give_equal_files_but_for_what_belongs_to_the_machine(make_settings, tmp_path, monkeypatch):
    one = make_plan(make_settings(), ANSWERS, tmp_path / "one")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "/elsewhere")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "none")
    two = make_plan(make_settings(), ANSWERS, tmp_path / "two")
    different = {name for name in FILES if one.files[name] != two.files[name]}
    assert different == {"plan.json"}


def test_every_file_is_text_that_ends_in_a_newline_and_opens_as_what_was_chosen(plan_of):
    plan = plan_of(validation_prompt="ein Bär", num_processes=2, use_cpu=True)
    assert all(content.endswith(b"\n") for content in plan.files.values())
    training = json.loads(plan.files["training.json"])
    assert training["validation_prompt"] == "ein Bär"
    assert "ein Bär".encode() in plan.files["training.json"]
    assert training == plan.settings.training.to_json()
    assert json.loads(plan.files["deepspeed.json"]) == plan.settings.deepspeed_json()
    launch = yaml.safe_load(plan.files["accelerate.yaml"])
    assert launch == plan.settings.launch.to_yaml_object()
    assert (launch["num_processes"], launch["use_cpu"]) == (2, True)
    # Beside a deepspeed_config_file accelerate refuses an inline stage, accumulation or precision.
    assert launch["deepspeed_config"] == {"deepspeed_config_file": "deepspeed.json", "zero3_init_flag": False}
    assert not {"mixed_precision", "gradient_accumulation_steps", "gpu_ids"} & set(launch)


def test_plan_json_says_how_it_will_be_run_and_with_what(plan_of):
    plan = plan_of()
    content = json.loads(plan.files["plan.json"])
    assert content["argv"] == list(plan.argv)
    assert content["environment"] == plan.environment
    assert content["estimate"] == json.loads(json.dumps(plan.estimate.to_json()))
    assert set(content["versions"]) == {"python", *PACKAGES}
    assert content["versions"]["deepspeed"].startswith("0.")
    assert content["notes"] == list(plan.notes)


def test_caches_lie_beside_the_run_directories_where_no_place_was_chosen(make_settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = make_plan(make_settings(), ANSWERS, Path("runs/cats-1"))
    assert plan.run_dir == tmp_path / "runs/cats-1"
    assert json.loads(plan.files["training.json"])["cache_dir"] == str(tmp_path / "runs/cache")
    assert plan.settings.training.data.cache_dir == str(tmp_path / "runs/cache")
    chosen = make_plan(make_settings(cache_dir="/fast/cache"), ANSWERS, Path("runs/cats-1"))
    assert json.loads(chosen.files["training.json"])["cache_dir"] == "/fast/cache"


def test_the_cost_is_of_the_model_and_the_pictures_that_are_there(plan_of, tmp_path):
    model = write_model(tmp_path / "model")
    pictures = write_pictures(tmp_path / "pictures", count=500)
    (pictures / ".hidden.png").touch()
    changed = {"pretrained_model_name_or_path": str(model), "instance_data_dir": str(pictures)}
    plan = plan_of(**changed)
    assert plan.model.parameters == 144
    # This VAE halves twice: 1024 px are 256 latent pixels a side.
    caches = {part.name: part.mib for part in plan.estimate.disk}["caches"]
    assert caches == round(500 * (2 * 4 * 256 * 256 * 4 + 2 * (77 * 2048 + 1280)) / 2**20)


# command line and environment


def test_it_runs_accelerate_launch_on_the_run_directory_with_this_interpreter(plan_of, tmp_path):
    plan = plan_of()
    assert plan.argv == (
        sys.executable,
        *("-m", "accelerate.commands.launch"),
        *("--config_file", "accelerate.yaml"),
        *("--main_process_port", "0"),
        *("-m", "launcher.train", str(tmp_path / "runs/a")),
    )


@pytest.mark.parametrize("processes", [1, 2, 1000])
def test_each_process_gets_its_share_of_the_cores(plan_of, processes):
    threads = plan_of(num_processes=processes).environment["OMP_NUM_THREADS"]
    assert threads == str(max(1, read_host().cores // processes))


def test_threads_that_were_chosen_are_given(plan_of):
    assert plan_of(cpu_threads=7, num_processes=2).environment["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize(
    ("shell", "answered", "given"),
    [("3", 0, "3"), ("3,2", 0, "3"), ("3", 7, "7"), ("many", 0, None), ("0", 0, None), ("", 0, None)],
)
def test_the_shells_threads_hold_where_none_are_answered(plan_of, monkeypatch, shell, answered, given):
    monkeypatch.setenv("OMP_NUM_THREADS", shell)
    plan = plan_of(cpu_threads=answered)
    assert plan.environment["OMP_NUM_THREADS"] == (given or str(read_host().cores))
    assert not [name for name in plan.environment if name.startswith(("OMP_PROC", "OMP_PLACES", "OMP_WAIT"))]


def test_a_shell_that_spares_its_cores_is_noted_where_the_optimizer_is_on_them(plan_of, monkeypatch):
    monkeypatch.setattr("launcher.plan.read_host", lambda: Host(0, 0, 16))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    on_cpu = set(plan_of().notes) - set(plan_of(cpu_threads=1).notes)
    assert [note.partition(";")[0] for note in on_cpu] == [
        "OMP_NUM_THREADS of this shell gives the optimizer on the CPU 1 of 16 cores"
    ]
    assert on_cpu.isdisjoint(plan_of(offload_optimizer_device="none").notes)
    assert on_cpu.isdisjoint(plan_of(num_processes=16).notes)


def test_what_else_every_process_gets(plan_of, monkeypatch):
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    assert set(plan_of().environment) == {
        "CUDA_DEVICE_ORDER",
        "OMP_NUM_THREADS",
        "PYTHONUNBUFFERED",
        "TOKENIZERS_PARALLELISM",
        "TORCH_EXTENSIONS_DIR",
        "PYTORCH_ALLOC_CONF",
    }


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (None, f"{sys.prefix}/torch_extensions"),
        ("", f"{sys.prefix}/torch_extensions"),
        ("/big/extensions", "/big/extensions"),
    ],
)
def test_compiled_extensions_are_kept_in_the_environment_unless_a_place_is_given(plan_of, monkeypatch, given, used):
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    if given is not None:
        monkeypatch.setenv("TORCH_EXTENSIONS_DIR", given)
    assert plan_of().environment["TORCH_EXTENSIONS_DIR"] == used


def test_a_relative_place_for_extensions_counts_from_here_not_from_the_run_directory(plan_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "extensions")
    assert plan_of().environment["TORCH_EXTENSIONS_DIR"] == str(tmp_path / "extensions")


def test_the_cpu_is_taken_by_hiding_the_gpus(plan_of):
    environment = plan_of(use_cpu=True).environment
    assert (environment["CUDA_VISIBLE_DEVICES"], environment["DS_ACCELERATOR"]) == ("", "cpu")
    assert "PYTORCH_ALLOC_CONF" not in environment


def test_cuda_numbers_the_gpus_as_the_driver_does_which_shows_them(plan_of):
    assert plan_of().environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert "CUDA_DEVICE_ORDER" not in plan_of(use_cpu=True).environment


@pytest.mark.parametrize("own", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_the_gpus_memory_grows_in_segments_unless_the_person_says_otherwise(plan_of, monkeypatch, own):
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    environment = plan_of().environment
    assert environment["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    assert not {"CUDA_VISIBLE_DEVICES", "DS_ACCELERATOR"} & set(environment)
    monkeypatch.setenv(own, "max_split_size_mb:64")
    assert "PYTORCH_ALLOC_CONF" not in plan_of().environment


def test_gpus_that_train_together_exchange_through_few_channels_where_memory_is_scarce(plan_of, monkeypatch):
    for name in NCCL_SIZES:
        monkeypatch.delenv(name, raising=False)

    def told(**changed: object) -> dict[str, str]:
        environment = plan_of(**{"num_processes": 2, **changed}).environment
        return {name: value for name, value in environment.items() if name.startswith("NCCL_")}

    assert told() == told(zero_stage=3) == {"NCCL_MAX_NCHANNELS": "2", "NCCL_BUFFSIZE": str(2**20)}
    assert not told(num_processes=1)
    assert not told(offload_optimizer_device="none")
    launch = plan_of(num_processes=2).settings.launch
    for whole in (replace(launch, deepspeed=False), replace(launch, use_cpu=True)):
        assert not has_few_channels(replace(plan_of(num_processes=2).settings, launch=whole))


def test_what_a_shell_says_of_nccls_channels_holds_and_is_noted_as_not_counted(plan_of, monkeypatch):
    for name in NCCL_SIZES:
        monkeypatch.delenv(name, raising=False)
    before = set(plan_of(num_processes=2).notes)
    monkeypatch.setenv("NCCL_BUFFSIZE", "8388608")
    plan = plan_of(num_processes=2)
    assert plan.environment["NCCL_MAX_NCHANNELS"] == "2"
    assert "NCCL_BUFFSIZE" not in plan.environment
    (note,) = set(plan.notes) - before
    assert note.startswith("this shell sets NCCL_BUFFSIZE; ")
    assert note not in plan_of(num_processes=1).notes


# without a compiler


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", str(tmp_path / "none"))


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("optimizer", ["AdamW", "Adam"])
@pytest.mark.parametrize(("device", "name"), [("cpu", "CPU Adam"), ("none", "fused Adam")])
def test_without_a_compiler_it_is_said_that_torchs_own_adam_steps_in(plan_of, optimizer, device, name):
    plan = plan_of(offload_optimizer_device=device, **{"optimizer.type": optimizer})
    (note,) = plan.notes
    assert note.startswith(f"DeepSpeed's {name} cannot be compiled here; torch's fused AdamW does the same")
    assert "apt install g++" in note
    assert json.loads(plan.files["plan.json"])["notes"] == [note]
    # The file is what was chosen; the launcher decides when it has tried.
    assert "torch_adam" not in json.loads(plan.files["deepspeed.json"])["optimizer"]["params"]


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("optimizer", ["Lion", "Adagrad"])
def test_for_an_optimizer_without_a_stand_in_nothing_is_promised(plan_of, optimizer):
    assert plan_of(**{"optimizer.type": optimizer}).notes == ()


def test_with_a_compiler_there_is_nothing_to_note(plan_of, tmp_path, monkeypatch):
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    plan = plan_of()
    assert plan.notes == () or "python3-dev" in plan.notes[0]


# accelerate and DeepSpeed take it


def what_may_be_launched(base) -> list[dict]:
    """deepspeed.json of every stage, offload, optimizer and schedule that no rule forbids."""
    contents = []
    for stage, states, parameters, optimizer, schedule, accumulation in product(
        range(4),
        ("none", "cpu", "nvme"),
        ("none", "cpu", "nvme"),
        ("AdamW", "Adam", "Adagrad", "Lion", "Muon"),
        ("WarmupLR", "WarmupDecayLR", "WarmupCosineLR"),
        (1, 4),
    ):
        deepspeed = replace(
            base.deepspeed,
            stage=stage,
            offload_optimizer_device=states,
            offload_param_device=parameters,
            optimizer_type=optimizer,
            scheduler_type=schedule,
            gradient_accumulation_steps=accumulation,
        )
        settings = replace(base, deepspeed=deepspeed)
        if all(problem.level is not Level.ERROR for problem in judge(settings, SDXL)):
            contents.append(settings.deepspeed_json())
    return contents


JUDGE = """
import json, sys
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands import launch
from accelerate.utils.launch import prepare_deepspeed_cmd_env
from deepspeed.runtime.config import DEEPSPEED_OPTIMIZERS, DeepSpeedConfig

job = json.load(sys.stdin)
told = {"launches": [], "deepspeed": []}
for argv in job["launches"]:
    config = load_config_from_file(argv[argv.index("--config_file") + 1])
    started = []
    launch.deepspeed_launcher = started.append
    launch.launch_command(launch.launch_command_parser().parse_args(argv[3:]))
    (args,) = started
    _, environment = prepare_deepspeed_cmd_env(args)
    told["launches"].append({
        "type": config.distributed_type.value, "processes": config.num_processes, "use_cpu": config.use_cpu,
        "module": args.module, "script": args.training_script, "arguments": args.training_script_args,
        "deepspeed": args.use_deepspeed, "nproc": getattr(args, "nproc_per_node", None),
        "json": environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE"), "port": args.main_process_port,
    })
for content in job["deepspeed"]:
    try:
        whole = DeepSpeedConfig(content)
        assert whole.optimizer_name in DEEPSPEED_OPTIMIZERS, whole.optimizer_name
        assert whole.gradient_accumulation_steps == content["gradient_accumulation_steps"]
        told["deepspeed"].append(None)
    except Exception as error:
        told["deepspeed"].append(f"{type(error).__name__}: {error}")
print("TOLD", json.dumps(told))
"""


@pytest.fixture(scope="module")
def verdict(make_settings, tmp_path_factory):
    """What accelerate and DeepSpeed say, in one process of their own: this one stays without torch."""
    folder = tmp_path_factory.mktemp("launch")
    launches = []
    for number, changed in enumerate(({}, {"num_processes": 2}, {"use_cpu": True, "num_processes": 2})):
        plan = make_plan(make_settings(**changed), ANSWERS, folder / str(number))
        plan.run_dir.mkdir()
        for name, content in plan.files.items():
            (plan.run_dir / name).write_bytes(content)
        # Each has its own file here, where a run has its own working folder.
        argv = [str(plan.run_dir / part) if part == "accelerate.yaml" else part for part in plan.argv]
        launches.append(argv)
    contents = what_may_be_launched(make_settings())
    ran = subprocess.run(
        [sys.executable, "-c", JUDGE],
        input=json.dumps({"launches": launches, "deepspeed": [*contents, {**contents[0], "elasticity": {}}]}),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder / "0",
        env={**os.environ, "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.rpartition("TOLD")[2]), contents, launches


def test_accelerate_reads_the_launch_file_and_finds_nothing_wrong_with_it(verdict):
    told, _, launches = verdict
    for said, argv, processes, use_cpu in zip(told["launches"], launches, (1, 2, 2), (False, False, True), strict=True):
        assert said["type"] == "DEEPSPEED"
        assert said["deepspeed"]
        assert (said["processes"], said["use_cpu"]) == (processes, use_cpu)
        assert int(said["nproc"]) == processes
        assert (said["module"], said["script"]) == (True, "launcher.train")
        assert said["arguments"] == [argv[-1]]
        assert said["json"] == "deepspeed.json"
        assert said["port"] > 0  # a free one, which accelerate picks for 0


def test_deepspeed_accepts_every_set_up_that_no_rule_forbids(verdict):
    told, contents, _ = verdict
    *accepted, forbidden = told["deepspeed"]
    refused = [(said, content) for said, content in zip(accepted, contents, strict=True) if said is not None]
    assert refused == []
    assert len(contents) > 200
    assert "elasticity" in forbidden


# several machines


@pytest.mark.parametrize(
    ("rank", "same_network", "options"),
    [(0, True, ("--rdzv_backend", "static", "--same_network")), (1, False, ("--rdzv_backend", "c10d"))],
)
def test_each_machine_starts_its_part_from_a_folder_of_its_own(plan_of, tmp_path, rank, same_network, options):
    one = plan_of(num_processes=4)
    machines = Machines(2, rank, "10.0.0.1", 29511, same_network, options[1])
    settings = replace(one.settings, launch=replace(one.settings.launch, machines=machines))
    plan = make_plan(settings, b"{}\n", tmp_path / "runs/a")
    assert plan.run_dir == tmp_path / "runs/a"
    assert plan.home == (tmp_path / "runs/a/machine-1" if rank else tmp_path / "runs/a")
    assert plan.argv == (
        sys.executable,
        *("-m", "accelerate.commands.launch"),
        *("--config_file", "accelerate.yaml"),
        *options,
        *("-m", "launcher.train", str(tmp_path / "runs/a")),
    )
    run = create(plan.home, plan.files)
    assert run.trains().path == tmp_path / "runs/a"
    # Half of the processes are here, with all of this machine's cores and half of what they need.
    assert plan.environment["OMP_NUM_THREADS"] == str(max(1, read_host().cores // 2))
    assert plan.estimate.host_mib == pytest.approx(one.estimate.host_mib / 2, abs=len(plan.estimate.host))
    assert plan.estimate.gpu_mib > one.estimate.gpu_mib, "between machines NCCL is left as it is"
    assert "NCCL_MAX_NCHANNELS" in one.environment.keys() - plan.environment.keys()


# the time of a step, where this machine was measured


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Keeps figures as if this machine had been measured with so many threads."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def keep(threads: int, drive: DriveSpeed | None = None) -> None:
        figures = replace(H200, hardware=this_hardware(threads), drive=drive)
        file = bandwidths_file(figures.hardware)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(figures.to_bytes())

    return keep


def test_the_time_of_a_step_is_planned_once_this_machine_is_measured(plan_of, measured):
    assert plan_of().estimate.step_seconds is None
    measured(read_host().cores)
    seconds = plan_of().estimate.step_seconds
    assert seconds > 1
    assert json.loads(plan_of().files["plan.json"])["estimate"]["step_seconds"] == pytest.approx(seconds, abs=0.001)
    assert plan_of(num_processes=3).estimate.step_seconds  # ranks share all cores
    assert plan_of(cpu_threads=64).estimate.step_seconds is None
    measured(64)
    assert plan_of(cpu_threads=64).estimate.step_seconds == seconds
    assert plan_of(cpu_threads=32, num_processes=2).estimate.step_seconds


def test_a_drive_counts_where_it_is_the_one_that_is_swapped_to(plan_of, measured):
    nvme = {"zero_stage": 3, "offload_optimizer_device": "nvme"}
    measured(read_host().cores, DriveSpeed("/nvme", 2.0, 4.0))
    assert plan_of(**nvme, offload_optimizer_nvme_path="/nvme").estimate.step_seconds > 30
    assert plan_of(**nvme, offload_optimizer_nvme_path="/other").estimate.step_seconds is None
    assert plan_of().estimate.step_seconds
