"""What refuses to start: each finding with its question, words, level, exit code, and whether force overrides it."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from harness.fake_model import write_header, write_model, write_pictures
from launcher.config.accelerate import Machines
from launcher.config.setting import Level
from launcher.data.sources import read_sources
from launcher.data.unpacked import hold
from launcher.errors import CannotRunHereError, ExitCode, InvalidInputError
from launcher.estimate import SDXL, read_model_facts
from launcher.estimate.total import IN_ROWS, Part
from launcher.machine.disk import free_bytes
from launcher.machine.gpu_processes import GpuProcess
from launcher.machine.gpus import Gpu, Gpus
from launcher.machine.host import Host, read_host
from launcher.machine.toolchain import Toolchain
from launcher.plan import Plan
from launcher.preflight import Finding, Machine, preflight, raise_for
from launcher.preflight.finding import size
from launcher.runs.checkpoints import FACTS, identity
from launcher.runs.marker import mark
from launcher.runs.swap import swap_folders

MIB = 2**20
GIB = 1024
LARGE = Host(total_mib=256 * GIB, available_mib=250 * GIB, cores=8)
WHOLE = Toolchain("/usr/bin/c++", True, "/usr/bin/ninja")
PIN = "zero_optimization.offload_optimizer.pin_memory"


def card(index=0, total=80 * GIB, free=None):
    return Gpu(
        index,
        f"GPU-{index}{index}",
        "NVIDIA H100",
        total,
        total if free is None else free,
        0 if free is None else total - free,
    )


def machine(*gpus: Gpu, reason="", host=LARGE, toolchain=WHOLE) -> Machine:
    return Machine(gpus=lambda: Gpus(gpus, reason), host=lambda: host, toolchain=lambda: toolchain)


GOOD = machine(card())
BARE = Toolchain(None, True, "/usr/bin/ninja")


@pytest.fixture(autouse=True)
def all_gpus_are_shown(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def small(tmp_path, plan_of):
    """A plan of a tiny model and four pictures, in which nothing is wrong."""
    write_model(tmp_path / "model")
    write_pictures(tmp_path / "pictures")

    def plan(**changed: object) -> Plan:
        given = {
            "pretrained_model_name_or_path": str(tmp_path / "model"),
            "instance_data_dir": str(tmp_path / "pictures"),
            "resolution": 64,
        }
        return plan_of(**{**given, **changed})

    return plan


@pytest.fixture
def sdxl(small, tmp_path):
    """A plan of SDXL that is not here yet, with room on the disk and no more said of it."""

    def plan(**changed: object) -> Plan:
        given = {"pretrained_model_name_or_path": "stabilityai/stable-diffusion-xl-base-1.0", **changed}
        made = small(**given)
        return replace(made, estimate=replace(made.estimate, disk=()))

    return plan


def only(plan: Plan, on: Machine = GOOD) -> Finding:
    (finding,) = preflight(plan, on)
    return finding


def test_a_plan_in_which_nothing_is_wrong_has_no_findings(small):
    assert preflight(small(), GOOD) == []


def test_nothing_is_written(small, tmp_path):
    plan = small()
    before = sorted(tmp_path.rglob("*"))
    preflight(plan, GOOD)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_real_machine_is_asked_where_no_other_is_given(small):
    assert preflight(small(use_cpu=True)) == []


# the model


def test_a_missing_component_is_the_models_fault(small, tmp_path):
    plan = small()
    shutil.rmtree(tmp_path / "model/text_encoder_2")
    finding = only(plan)
    assert finding.field == "training.pretrained_model_name_or_path"
    assert finding.message.startswith(f"{tmp_path}/model lacks text_encoder_2: ")
    assert (finding.level, finding.exit_code, finding.forceable) == (Level.ERROR, ExitCode.USAGE, False)


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder"])
def test_weights_that_are_cut_off_are_named_beside_all_other_faults(small, tmp_path, component):
    plan = small(instance_data_dir="/nowhere")
    weights = tmp_path / f"model/{component}/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    model, pictures = preflight(replace(plan, model=read_model_facts(str(tmp_path / "model"))), GOOD)
    assert model.field == "training.pretrained_model_name_or_path"
    assert model.message.startswith(f"{weights} is not a whole safetensors file")
    assert pictures.field == "training.instance_data_dir"


@pytest.mark.parametrize(("side", "nearest"), [(60, "56 or 64"), (100, "96 or 104"), (17, "16 or 24")])
def test_a_resolution_between_the_models_steps_is_told_its_neighbours(small, side, nearest, tmp_path):
    write_pictures(tmp_path / "pictures", side=200)
    finding = only(small(resolution=side, crop=True))
    assert finding.field == "training.resolution"
    assert finding.message == f"must be a multiple of 8 for this model: {nearest}, not {side}"
    assert finding.exit_code is ExitCode.USAGE


def test_below_the_first_step_there_is_one_neighbour(small, tmp_path):
    write_model(tmp_path / "coarse", unet_widths=(8, 8, 8), vae_widths=(8, 8, 8, 8))
    finding = only(small(resolution=16, pretrained_model_name_or_path=str(tmp_path / "coarse")))
    assert finding.message == "must be a multiple of 32 for this model: 32, not 16"


def test_sdxl_that_is_not_here_yet_has_its_own_step(sdxl):
    assert [f.message for f in preflight(sdxl(resolution=48), GOOD)] == [
        "must be a multiple of 32 for this model: 32 or 64, not 48"
    ]
    assert preflight(sdxl(resolution=64), GOOD) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone", None, "gone does not exist; give a diffusers folder, a file or a hub id"),
        ("model.ckpt", b"x", "model.ckpt is not a .safetensors file"),
        ("cut.safetensors", b"\x10\0\0\0\0\0\0\0{", "cut.safetensors is not a whole safetensors file"),
        ("page.safetensors", b"<html>sign in</html>", "page.safetensors is not a whole safetensors file"),
    ],
)
def test_what_is_no_model_is_named(sdxl, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    finding = only(sdxl(pretrained_model_name_or_path=str(tmp_path / name)))
    assert finding.field == "training.pretrained_model_name_or_path"
    assert message in finding.message
    assert finding.exit_code is ExitCode.USAGE


def test_a_single_file_needs_its_configuration(sdxl, tmp_path):
    write_header(tmp_path / "model.safetensors", {"a": {"shape": [1], "data_offsets": [0, 4]}}, 4)
    single = {"pretrained_model_name_or_path": str(tmp_path / "model.safetensors")}
    assert preflight(sdxl(**single), GOOD) == []
    finding = only(sdxl(**single, pretrained_model_config="/nowhere"))
    assert finding.field == "training.pretrained_model_config"
    assert finding.message == "/nowhere is no folder; give a diffusers folder or a hub id"


@pytest.mark.parametrize(
    ("schedule", "chosen", "field", "level"),
    [
        ({}, {"rescale_betas_zero_snr": True}, "prediction_type", Level.ERROR),
        ({"prediction_type": "sample"}, {}, "pretrained_model_name_or_path", Level.ERROR),
        ({"num_train_timesteps": 500}, {"min_timestep": 500}, "min_timestep", Level.ERROR),
        ({}, {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}, "prediction_type", Level.WARNING),
    ],
)
def test_the_models_noise_schedule_must_go_with_the_objective(small, tmp_path, schedule, chosen, field, level):
    (tmp_path / "model/scheduler/scheduler_config.json").write_text(json.dumps(schedule))
    finding = only(small(**chosen))
    assert (finding.field, finding.level) == (f"training.{field}", level)


def test_another_vae_is_looked_at_too(small, tmp_path):
    key = "pretrained_vae_model_name_or_path"
    assert preflight(small(**{key: "madebyollin/sdxl-vae-fp16-fix"}), GOOD) == []
    assert preflight(small(**{key: str(tmp_path / "model/vae")}), GOOD) == []
    for value, message in (("/nowhere", "is no folder"), (str(tmp_path / "model"), "is not a diffusers VAE")):
        finding = only(small(**{key: value}))
        assert finding.field == f"training.{key}"
        assert message in finding.message


def test_what_lies_where_one_may_not_look_is_told_without_a_traceback(guarded, plan_of):
    model = write_model(guarded.path / "shut/model")
    pictures = write_pictures(guarded.path / "shut/pictures")
    outputs = guarded.path / "shut/outputs"
    (outputs / "checkpoints").mkdir(parents=True)
    (guarded.path / "shut").chmod(0)
    changed = {"pretrained_model_name_or_path": str(model), "instance_data_dir": str(pictures)}
    with guarded.ordinary_user():
        plan = replace(plan_of(**changed, output_dir=str(outputs)), run_dir=guarded.path / "run")
        told = {finding.field: finding.message for finding in preflight(plan, GOOD)}
    assert told["training.pretrained_model_name_or_path"].startswith(f"{model} does not exist")
    assert told["training.instance_data_dir"].startswith(f"{pictures} is not a folder")
    assert "cannot be written by this user" in told["training.output_dir"]


# the data


def test_faults_of_the_data_are_one_finding_of_at_most_twenty_lines_and_a_count(small, tmp_path):
    plan = small()
    for number in range(25):
        (tmp_path / f"pictures/bad{number:02}.png").touch()
    finding = only(plan)
    first, *lines = finding.message.splitlines()
    assert finding.field == "training.instance_data_dir"
    assert finding.exit_code is ExitCode.USAGE
    assert first == f"{tmp_path}/pictures cannot be trained on yet:"
    assert len(lines) == 21
    assert lines[-1].strip() == "and 5 more"


def test_a_batch_larger_than_the_data_says_what_it_is_made_of(small):
    finding = only(small(train_batch_size=2, gradient_accumulation_steps=3), machine(card(0), card(1)))
    assert finding.field == "training.train_batch_size"
    assert finding.message.startswith(
        "one step takes 6 pictures (2 a micro-batch x 3 accumulation x 1 processes), but there are only 4; lower"
    )
    assert finding.exit_code is ExitCode.USAGE
    assert preflight(small(train_batch_size=4), GOOD) == []


def test_the_table_of_buckets_is_a_note_and_what_recurs_in_a_step_a_warning(small, tmp_path):
    for name, shape in {"wide": (96, 64), "wider": (97, 65)}.items():
        Image.new("RGB", shape).save(tmp_path / f"pictures/{name}.png")
        (tmp_path / f"pictures/{name}.txt").write_text("x")
    (note,) = preflight(small(aspect_bucket_alignment=16, train_batch_size=2), GOOD)
    assert (note.field, note.level) == ("training.instance_data_dir", Level.NOTE)
    assert note.message.startswith("6 pictures in 2 buckets; a step takes 2 of one bucket, an epoch has 3.0 steps")
    warned, _ = preflight(small(aspect_bucket_alignment=16, train_batch_size=4), GOOD)
    assert (warned.field, warned.level) == ("training.train_batch_size", Level.WARNING)
    assert "1 of 2 buckets has fewer pictures than the 4 that a step takes (80x48 has 2): a step" in warned.message
    refused, _ = preflight(
        small(aspect_bucket_alignment=16, train_batch_size=4, allow_dataset_oversubscription=False), GOOD
    )
    assert refused.level is Level.ERROR
    assert "allow it with training.allow_dataset_oversubscription" in refused.message


def test_left_out_pictures_are_a_warning_and_empty_captions_a_note(small, tmp_path):
    Image.new("RGB", (1, 1)).save(tmp_path / "pictures/point.png")
    (tmp_path / "pictures/point.txt").write_text("x")
    (tmp_path / "pictures/00.txt").write_text("")
    empty, left_out = preflight(small(minimum_image_size=64), GOOD)
    assert empty.message == "1 of 4 captions is empty, which trains what is drawn without a prompt"
    assert empty.level is Level.NOTE
    assert left_out.message.startswith(
        f"1 of the pictures are left out:\n  {tmp_path}/pictures/point.png: 1x1 is below"
    )
    assert left_out.level is Level.WARNING


@pytest.mark.parametrize("alignment", [12, 20])
def test_an_alignment_between_the_models_steps_is_told_its_neighbours(small, alignment):
    finding = only(small(aspect_bucket_alignment=alignment))
    assert finding.field == "training.aspect_bucket_alignment"
    assert finding.message.startswith("must be a multiple of 8 for this model: ")


def test_sources_of_a_file_are_looked_at_but_not_those_in_rows(small, tmp_path):
    file = tmp_path / "sources.json"
    rows = {"id": "rows", "type": "huggingface", "dataset_name": "nobody/nothing"}
    file.write_text(json.dumps([{"id": "here", "instance_data_dir": "pictures"}, rows]))
    note = only(small(instance_data_dir="", data_backend_config=str(file)))
    assert note.message == (
        "pictures of rows lie in rows and are looked at when the run starts; how much disk those of rows take is not "
        "known before they are loaded"
    )
    file.write_text(json.dumps([{"id": "here", "instance_data_dir": "nowhere"}, {**rows, "reapeats": 1}]))
    finding = only(small(instance_data_dir="", data_backend_config=str(file)))
    assert finding.field == "training.data_backend_config"
    assert "rows: reapeats is not a setting of a source; did you mean repeats?" in finding.message


def test_processes_count_in_the_batch(small):
    cards = machine(card(0), card(1))
    assert preflight(small(train_batch_size=2, num_processes=2), cards) == []
    assert "6 pictures" in only(small(train_batch_size=3, num_processes=2), cards).message


# folders


def test_a_folder_that_cannot_be_written_is_told_once_by_its_question(small, tmp_path):
    (tmp_path / "file").touch()
    finding = only(small(output_dir=str(tmp_path / "file/out"), cache_dir=str(tmp_path / "file/cache")))
    assert finding.field == "training.output_dir"
    assert finding.message == f"{tmp_path}/file/out cannot be written: {tmp_path}/file is a file; choose another"
    assert (finding.exit_code, finding.forceable) == (ExitCode.CANNOT_RUN_HERE, False)


def test_the_run_directory_and_the_caches_have_questions_of_their_own(small, tmp_path):
    (tmp_path / "file").touch()
    plan = replace(small(output_dir=str(tmp_path / "out")), run_dir=tmp_path / "file/run")
    assert only(plan).field == "--run-dir"
    assert only(small(cache_dir="/proc/cache")).field == "training.cache_dir"


# disk


def with_disk(plan: Plan, **mib: int) -> Plan:
    parts = tuple(Part(name, size) for name, size in mib.items())
    return replace(plan, estimate=replace(plan.estimate, disk=parts))


def test_checkpoints_of_sdxl_are_36_gb_each_times_those_kept_and_the_one_being_written(small):
    plan = small(
        pretrained_model_name_or_path="stabilityai/stable-diffusion-xl-base-1.0",
        max_train_steps=10_000,
        checkpoints_total_limit=100_000,
        checkpointing_steps=1,
    )
    finding = only(plan)
    each = 14 * SDXL.parameters / 2**30
    assert finding.field == "training.output_dir"
    assert finding.message.startswith(f"{plan.run_dir} needs ")
    assert "(checkpoints, 10000 at a time 334" in finding.message
    assert f"One checkpoint takes {each:.1f} GiB: lower training.checkpoints_total_limit" in finding.message
    assert (finding.level, finding.exit_code, finding.forceable) == (Level.ERROR, ExitCode.CANNOT_RUN_HERE, True)


def test_the_disk_must_hold_all_parts_together(small, tmp_path):
    free = free_bytes(tmp_path) // MIB
    third = free // 3
    assert preflight(with_disk(small(), checkpoints=third, pipeline=third), GOOD) == []
    finding = only(with_disk(small(), checkpoints=third, pipeline=third, caches=third + 4 * GIB))
    assert f"(checkpoints {third / GIB:.1f} GiB, pipeline {third / GIB:.1f} GiB, caches " in finding.message


def test_what_an_earlier_launch_left_is_counted_as_room(small, tmp_path):
    plan = with_disk(small(), checkpoints=free_bytes(tmp_path) // MIB + 2 * GIB)
    assert only(plan).field == "training.output_dir"
    for name in ("checkpoints/checkpoint-5/a.pt", "checkpoints/checkpoint-6/a.pt", "pipeline/unet/a.safetensors"):
        path = plan.run_dir / name
        path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            file.truncate(2**30)
    (plan.run_dir / "pipeline/link").symlink_to("nowhere")
    (plan.run_dir / "plan.json").write_text("{}")
    assert preflight(plan, GOOD) == []


def test_a_place_that_is_taken_and_checkpoints_that_would_be_passed_over_are_told_before_the_launch(small):
    plan = small()
    plan.run_dir.mkdir(parents=True)
    (plan.run_dir / "thesis.txt").write_text("mine")
    assert (only(plan).field, only(plan).exit_code) == ("--run-dir", ExitCode.REFUSED_TO_OVERWRITE)
    (plan.run_dir / "plan.json").write_text("{}")
    assert preflight(plan, GOOD) == []


@pytest.fixture
def other_disk():
    folder = Path("/dev/shm") / f"other-{os.getpid()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def test_caches_on_another_disk_are_that_disks_matter(small, tmp_path, other_disk):
    free, other = (free_bytes(path) // MIB for path in (tmp_path, other_disk))
    plan = small(cache_dir=str(other_disk / "cache"))
    fits = with_disk(plan, checkpoints=free - 2 * GIB, caches=other // 2)
    assert preflight(fits, GOOD) == []
    finding = only(with_disk(plan, checkpoints=1, caches=other + GIB))
    assert finding.field == "training.cache_dir"
    assert finding.message.startswith(f"{other_disk}/cache needs {(other + GIB) / GIB:.1f} GiB for latents")
    assert (finding.exit_code, finding.forceable) == (ExitCode.CANNOT_RUN_HERE, True)


def test_pictures_in_rows_need_room_where_the_cache_is(small, tmp_path, other_disk):
    """What of them is there already needs none; what is there of other rows is told, and is no room."""
    row = {"image": {"bytes": os.urandom(3 * MIB), "path": None}, "text": "row"}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "mine.parquet")
    cache, listed = other_disk / "cache", tmp_path / "sources.json"
    listed.write_text(json.dumps([{"id": "mine", "type": "parquet", "parquet_path": "mine.parquet"}]))
    plan = small(instance_data_dir="", data_backend_config=str(listed), cache_dir=str(cache))
    (part,) = [part for part in plan.estimate.disk if part.name == IN_ROWS]
    assert part.mib == 3

    def errors(**mib: int) -> list[str]:
        found = preflight(with_disk(plan, **mib), GOOD)
        return [finding.message for finding in found if finding.level is Level.ERROR]

    free = free_bytes(other_disk) // MIB
    half = free // 2 + GIB
    assert errors(**{IN_ROWS: half}) == []
    (told,) = errors(**{IN_ROWS: half, "caches": half})
    assert told.startswith(
        f"{cache} needs {2 * half / GIB:.1f} GiB for latents and prompt embeddings and pictures that"
    )
    (told,) = errors(**{IN_ROWS: free + GIB // 2})
    assert told.startswith(f"{cache}/rows needs ")
    (source,) = read_sources(plan.settings.training)
    for name, whose in (("a", source), ("b", replace(source, parquet_path="/other.parquet"))):
        hold(cache / "rows" / name, whose)
        with (cache / "rows" / name / "0.picture").open("wb") as file:
            file.truncate(2**30)
    assert errors(**{IN_ROWS: free + GIB // 2}) == []
    assert len(errors(**{IN_ROWS: free + 3 * GIB // 2})) == 1
    assert len(errors(caches=free + GIB // 2)) == 1, "rows are no latents"
    notes = [finding.message for finding in preflight(plan, GOOD) if finding.level is Level.NOTE]
    (told,) = [note for note in notes if "rows/" in note]
    assert told == (
        f"{cache}/rows/b holds 1.0 GiB of pictures unpacked from /other.parquet, which this run does not train on; "
        "remove it if no other run of this cache folder needs it"
    )


def test_caches_that_are_there_already_need_no_more_room(small, other_disk):
    plan = small(cache_dir=str(other_disk))
    with (other_disk / "latents.safetensors").open("wb") as file:
        file.truncate(2**30)
    assert preflight(with_disk(plan, caches=free_bytes(other_disk) // MIB + 512), GOOD) == []


# NVMe offload

SWAPS = {
    "zero_stage": 3,
    "offload_optimizer_device": "nvme",
    "offload_optimizer_nvme_path": "/fast",
    "offload_param_device": "nvme",
    "offload_param_nvme_path": "/fast",
}
SUITS = replace(
    GOOD, why_no_nvme_offload=lambda folder: None, missing_for_nvme=lambda found: (), lockable_mib=lambda: None
)
SLOW = replace(SUITS, why_no_nvme_offload=lambda folder: f"{folder.name} is slow")
WHERE = "deepspeed.zero_optimization.{}.nvme_path"


def test_a_drive_that_suits_deepspeed_may_be_used(small):
    assert preflight(small(**SWAPS), SUITS) == []


def test_a_drive_that_does_not_is_refused_once_with_what_else_to_choose(small):
    finding = only(small(**SWAPS), SLOW)
    assert finding.field == WHERE.format("offload_optimizer")
    assert finding.message == (
        "NVMe offload cannot go to /fast: fast is slow; choose cpu, or a folder on a local NVMe drive"
    )
    assert (finding.level, finding.exit_code, finding.forceable) == (Level.ERROR, ExitCode.CANNOT_RUN_HERE, False)
    other = preflight(small(**{**SWAPS, "offload_param_nvme_path": "/other"}), SLOW)
    assert [each.field for each in other] == [WHERE.format(part) for part in ("offload_optimizer", "offload_param")]


def test_a_path_counts_from_the_run_directory(small):
    plan = small(**{**SWAPS, "offload_optimizer_nvme_path": "swap", "offload_param_device": "cpu"})
    assert only(plan, SLOW).message.startswith(f"NVMe offload cannot go to {plan.run_dir}/swap: swap is slow")


def test_tests_may_use_any_folder_and_are_told_of_it(small, monkeypatch):
    monkeypatch.setenv("SIMPLETUNER_TUI_UNSAFE_NVME", "1")
    finding = only(small(**SWAPS), SLOW)
    assert finding.level is Level.WARNING
    assert finding.message.endswith("SIMPLETUNER_TUI_UNSAFE_NVME lets it")


@pytest.mark.parametrize("changed", [{"zero_stage": 2}, {"zero_stage": 1}])
def test_below_stage_3_no_drive_is_used(small, changed):
    assert preflight(small(**{**SWAPS, **changed}), SLOW) == []


def test_what_its_extension_takes_is_named_by_package(small):
    finding = only(small(**SWAPS), replace(SUITS, missing_for_nvme=lambda found: ("g++", "libaio-dev")))
    assert finding.field == "deepspeed.zero_optimization.offload_optimizer.device"
    assert finding.message == (
        "NVMe offload needs DeepSpeed's async_io extension, which cannot be compiled here; install g++ libaio-dev (apt "
        "install …), or choose cpu"
    )
    assert (finding.exit_code, finding.forceable) == (ExitCode.CANNOT_RUN_HERE, False)


def test_memory_that_may_not_be_locked_is_refused_before_deepspeed_aborts(sdxl):
    plan = sdxl(**SWAPS)
    (locked,) = (part.mib for part in plan.estimate.host if part.name == "buffers for NVMe, locked")
    assert preflight(plan, replace(SUITS, lockable_mib=lambda: locked)) == []
    finding = only(plan, replace(SUITS, lockable_mib=lambda: 8))
    assert finding.message.startswith(f"each process locks {locked / GIB:.1f} GiB of host RAM for NVMe offload, where")
    assert "this user may lock 8 MiB" in finding.message
    assert (finding.exit_code, finding.forceable) == (ExitCode.CANNOT_RUN_HERE, False)


def swapped(plan: Plan, optimizer: int, parameters: int) -> Plan:
    parts = (Part("optimizer on NVMe", optimizer), Part("parameters on NVMe", parameters))
    return replace(plan, estimate=replace(plan.estimate, disk=parts))


def test_a_drive_must_hold_all_that_is_swapped_to_it(small, other_disk):
    paths = {f"{part}_nvme_path": str(other_disk / part) for part in ("offload_optimizer", "offload_param")}
    plan, free = small(**{**SWAPS, **paths}), free_bytes(other_disk) // MIB
    assert preflight(swapped(plan, free // 2, free // 2 - 8), SUITS) == []
    finding = only(swapped(plan, free // 2, free // 2 + GIB), SUITS)
    assert finding.field == WHERE.format("offload_optimizer")
    assert "for masters, gradients and the optimizer's states and parameters, and" in finding.message
    assert (finding.exit_code, finding.forceable) == (ExitCode.CANNOT_RUN_HERE, True)


def test_what_is_swapped_beside_the_output_counts_there(small, tmp_path):
    paths = {f"{part}_nvme_path": str(tmp_path / "swap") for part in ("offload_optimizer", "offload_param")}
    plan = small(**{**SWAPS, **paths})
    finding = only(swapped(plan, free_bytes(tmp_path) // MIB, 2 * GIB), SUITS)
    assert finding.field == "training.output_dir"
    assert "optimizer on NVMe" in finding.message


def test_what_a_killed_launch_left_on_the_drive_needs_no_more_room(small, other_disk):
    plan = small(**{**SWAPS, "offload_optimizer_nvme_path": str(other_disk), "offload_param_device": "none"})
    (left,) = swap_folders(plan.settings.deepspeed_json(), plan.run_dir).values()
    left.mkdir()
    with (left / "0_9.tensor.swp").open("wb") as file:
        file.truncate(2**30)
    needs = replace(plan.estimate, disk=(Part("optimizer on NVMe", free_bytes(other_disk) // MIB + 512),))
    assert preflight(replace(plan, estimate=needs), SUITS) == []


# GPUs


def test_no_gpu_warns_with_the_reason_for_sdxl_alone(sdxl, small):
    none = machine(reason="no NVIDIA driver answers (Driver Not Loaded)")
    finding = only(sdxl(), none)
    assert (finding.field, finding.level) == ("accelerate.use_cpu", Level.WARNING)
    assert finding.message == ("no GPU: no NVIDIA driver answers (Driver Not Loaded); SDXL takes hours a step on a CPU")
    assert preflight(small(), none) == []


def test_the_cpu_that_was_chosen_warns_too_and_the_gpus_are_not_asked(sdxl):
    def gpus() -> Gpus:
        raise AssertionError("the GPUs were asked")

    finding = only(sdxl(use_cpu=True), replace(GOOD, gpus=gpus))
    assert finding.message == "training on the CPU was chosen; SDXL takes hours a step on a CPU"
    assert finding.level is Level.WARNING


def test_fewer_cards_than_processes_cannot_run(small):
    finding = only(small(num_processes=3), machine(card(0), card(1)))
    assert finding.field == "accelerate.num_processes"
    assert finding.message == "3 processes want a GPU each, and there are 2"
    assert (finding.exit_code, finding.forceable) == (ExitCode.CANNOT_RUN_HERE, False)


def test_a_card_that_is_too_small_is_named_and_may_be_forced(sdxl):
    plan = sdxl()
    needed = plan.estimate.gpu_least_mib
    finding = only(plan, machine(card(total=needed - 1)))
    assert finding.field == "training.train_batch_size"
    size = f"{needed / GIB:.1f} GiB"
    assert finding.message == f"needs {size} and GPU 0 (NVIDIA H100) has {size}; offload more or lower the batch"
    assert (finding.level, finding.exit_code, finding.forceable) == (Level.ERROR, ExitCode.CANNOT_RUN_HERE, True)


def test_a_card_on_which_torch_has_to_give_memory_back_warns(sdxl):
    plan = sdxl()
    looser = [replace(phase, least_mib=phase.least_mib - 500) for phase in plan.estimate.gpu]
    plan = replace(plan, estimate=replace(plan.estimate, gpu=tuple(looser)))
    assert preflight(plan, machine(card(total=plan.estimate.gpu_mib))) == []
    for tight in (plan.estimate.gpu_mib - 1, plan.estimate.gpu_least_mib):
        finding = only(plan, machine(card(total=tight)))
        assert finding.level is Level.WARNING
        assert finding.message.startswith(f"tight: torch would take {plan.estimate.gpu_mib / GIB:.1f} GiB, and")


def test_a_card_that_others_hold_is_refused_with_their_names_and_may_be_forced(sdxl):
    busy = machine(card(free=600))
    finding = only(sdxl(), replace(busy, gpu_processes=lambda uuid: (GpuProcess(1958, "python3", 70_000),)))
    assert (finding.field, finding.exit_code, finding.forceable) == (
        "training.train_batch_size", ExitCode.CANNOT_RUN_HERE, True,
    )  # fmt: skip
    free = "and 600 MiB of GPU 0 (NVIDIA H100) are free now: "
    assert finding.message.endswith(f"{free}python3 (pid 1958) must end first")
    unknown = only(sdxl(), replace(busy, gpu_processes=lambda uuid: ()))
    assert f"{free}another process must end first" in unknown.message


def test_only_the_cards_that_will_be_used_are_looked_at(sdxl):
    assert preflight(sdxl(), machine(card(0), card(1, total=GIB))) == []
    two = preflight(sdxl(num_processes=2), machine(card(0), card(1, total=GIB)))
    assert ["GPU 1" in finding.message for finding in two] == [True]


def test_the_cards_are_those_that_the_environment_shows(sdxl, monkeypatch):
    cards = machine(card(0, total=GIB), card(1))
    assert "GPU 0" in only(sdxl(), cards).message
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert preflight(sdxl(), cards) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert only(sdxl(), cards).message.startswith("no GPU: CUDA_VISIBLE_DEVICES= hides all 2 of them; SDXL")


# host RAM


def limited(folder: Path, limit: object, used: int = 0, version: int = 2) -> Host:
    """The host as a container's files describe it."""
    names = ("memory.max", "memory.current")
    if version == 1:
        names = ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")
        (folder / "memory").mkdir()
    for name, value in zip(names, (limit, used), strict=True):
        (folder / name).write_text(f"{value}\n")
    return read_host(folder)


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_that_allows_less_than_the_run_needs_cannot_run_it(sdxl, tmp_path, version):
    finding = only(sdxl(), machine(card(), host=limited(tmp_path, 2**30, version=version)))
    assert finding.field == f"deepspeed.{PIN}"
    assert "of host RAM, and this machine has 1.0 GiB; turning off pinned memory saves" in finding.message
    assert (finding.level, finding.exit_code, finding.forceable) == (Level.ERROR, ExitCode.CANNOT_RUN_HERE, True)


def test_a_container_without_a_limit_is_the_machine(sdxl, tmp_path):
    host = limited(tmp_path, "max")
    assert host.total_mib == read_host(tmp_path / "none").total_mib


def test_where_nothing_is_pinned_unpinning_is_not_advised(sdxl):
    finding = only(sdxl(**{PIN: False}), machine(card(), host=Host(GIB, GIB, 1)))
    assert finding.message.endswith("this machine has 1.0 GiB")


def test_memory_that_others_hold_warns(sdxl):
    plan = sdxl()
    host = Host(plan.estimate.host_mib, plan.estimate.host_mib - 1, 8)
    finding = only(plan, machine(card(), host=host))
    assert (finding.level, finding.exit_code) == (Level.WARNING, ExitCode.USAGE)
    assert finding.message.endswith("are available now")
    assert preflight(plan, machine(card(), host=replace(host, available_mib=host.total_mib))) == []


# compiler


@pytest.mark.parametrize(
    ("optimizer", "offload", "runs"),
    [
        ("AdamW", "cpu", True),
        ("Adam", "cpu", True),
        ("AdamW", "none", True),
        ("Adagrad", "none", True),
        ("Adagrad", "cpu", False),
        ("Lion", "cpu", False),
    ],
)
def test_without_a_compiler_only_what_torch_has_itself_runs(small, optimizer, offload, runs):
    plan = small(offload_optimizer_device=offload, **{"optimizer.type": optimizer})
    assert preflight(plan, GOOD) == []
    findings = preflight(plan, machine(card(), toolchain=BARE))
    assert (findings == []) is runs
    for finding in findings:
        assert finding.field == "deepspeed.optimizer.type"
        assert finding.message.startswith(f"{optimizer} needs an extension of DeepSpeed's that cannot be compiled")
        assert "install g++ (apt install …), or choose AdamW" in finding.message
        assert (finding.exit_code, finding.forceable) == (ExitCode.CANNOT_RUN_HERE, False)


def test_every_missing_package_is_named(small):
    bare = machine(card(), toolchain=Toolchain(None, False, None))
    assert "install g++ python3-dev ninja-build (" in only(small(**{"optimizer.type": "Lion"}), bare).message


# all at once


def test_everything_that_is_wrong_is_told_at_once(small, tmp_path):
    shutil.rmtree(tmp_path / "pictures")
    plan = with_disk(
        small(
            num_processes=2,
            resolution=60,
            output_dir=str(tmp_path / "out"),
            cache_dir="/proc/cache",
            **{"optimizer.type": "Lion"},
        ),
        checkpoints=2**40,
    )
    plan = replace(plan, model=SDXL)
    found = preflight(plan, machine(card(total=1), host=Host(1, 1, 1), toolchain=BARE))
    assert [finding.field for finding in found] == [
        "training.resolution",
        "training.instance_data_dir",
        "training.cache_dir",
        "training.output_dir",
        "accelerate.num_processes",
        "training.train_batch_size",
        f"deepspeed.{PIN}",
        "deepspeed.optimizer.type",
    ]


MACHINES = Finding("a.b", "too small", exit_code=ExitCode.CANNOT_RUN_HERE)
ESTIMATED = Finding("c.d", "does not fit", exit_code=ExitCode.CANNOT_RUN_HERE, forceable=True)
SETTINGS = Finding("e.f", "is wrong")
WARNING = Finding("g.h", "is slow", level=Level.WARNING)


def test_findings_become_one_error_that_lists_them():
    with pytest.raises(CannotRunHereError) as refused:
        raise_for([MACHINES, WARNING, ESTIMATED])
    assert str(refused.value) == "a.b: too small\nc.d: does not fit"
    assert refused.value.exit_code is ExitCode.CANNOT_RUN_HERE


@pytest.mark.parametrize("findings", [[SETTINGS, MACHINES], [MACHINES, SETTINGS, ESTIMATED]])
def test_one_fault_of_the_settings_makes_it_theirs(findings):
    with pytest.raises(InvalidInputError) as refused:
        raise_for(findings)
    assert refused.value.exit_code is ExitCode.USAGE
    assert all(finding.message in str(refused.value) for finding in findings)


def test_force_overrides_estimates_only():
    raise_for([ESTIMATED, WARNING], force=True)
    with pytest.raises(CannotRunHereError, match=r"^a\.b: too small$"):
        raise_for([ESTIMATED, MACHINES], force=True)
    with pytest.raises(InvalidInputError, match=r"^e\.f: is wrong$"):
        raise_for([SETTINGS, ESTIMATED], force=True)


@pytest.mark.parametrize("findings", [[], [WARNING]])
def test_warnings_stop_nothing(findings):
    raise_for(findings)


@pytest.mark.parametrize(("mib", "shown"), [(0, "0 MiB"), (1023, "1023 MiB"), (1024, "1.0 GiB"), (36_500, "35.6 GiB")])
def test_sizes_are_read_at_a_glance(mib, shown):
    assert size(mib) == shown


# platform


def test_a_gpu_that_is_not_nvidias_is_refused_unless_the_cpu_is_chosen(small):
    amd = replace(machine(reason="no NVIDIA driver answers"), why_not_cuda=lambda: "torch is built for AMD's ROCm")
    (finding,) = [each for each in preflight(small(), amd) if each.level is Level.ERROR]
    assert (finding.field, finding.message) == ("accelerate.use_cpu", "torch is built for AMD's ROCm")
    assert finding.exit_code is ExitCode.CANNOT_RUN_HERE
    assert not finding.forceable
    assert preflight(small(use_cpu=True), amd) == []


# trackers


def test_a_tracker_that_is_not_installed_is_refused_with_how_to_install_it(small):
    lacks = replace(GOOD, has_package=lambda name: False)
    both = [
        (each.field, each.message, each.exit_code) for each in preflight(small(report_to="tensorboard,wandb"), lacks)
    ]
    field, code = "training.report_to", ExitCode.CANNOT_RUN_HERE
    assert both == [
        (field, "tensorboard is not installed; pip install tensorboard, or leave it out", code),
        (field, "wandb is not installed; pip install wandb, or leave it out", code),
    ]
    assert preflight(small(), lacks) == []
    # accelerate takes either for TensorBoard.
    other = replace(GOOD, has_package=lambda name: name == "tensorboardX")
    assert preflight(small(report_to="tensorboard"), other) == []


# machines


def over_ssh(plan: Plan, hostfile: Path, **more: str) -> Plan:
    machines = Machines(2, 0, "10.0.0.1", 29511, launcher="pdsh", hostfile=str(hostfile), **more)
    launch = replace(plan.settings.launch, machines=machines, num_processes=2)
    return replace(plan, settings=replace(plan.settings, launch=launch))


def test_a_later_machine_may_be_started_before_the_first_one(small):
    plan = small()
    (plan.run_dir / "machine-1").mkdir(parents=True)
    assert preflight(plan, GOOD) == []
    (plan.run_dir / "mine").touch()
    (finding,) = preflight(plan, GOOD)
    assert (finding.field, finding.exit_code) == ("--run-dir", ExitCode.REFUSED_TO_OVERWRITE)


def test_pdsh_and_its_hosts_are_looked_for(small, tmp_path):
    there, missing = replace(GOOD, which=lambda name: f"/usr/bin/{name}"), replace(GOOD, which=lambda name: None)
    hosts = tmp_path / "hosts"
    (finding,) = preflight(over_ssh(small(), hosts), there)
    assert finding.field == "accelerate.ds_hostfile"
    assert finding.message == f"{hosts} cannot be read: No such file or directory"
    hosts.write_text("# ours\n\none slots=1\n")
    (finding,) = preflight(over_ssh(small(), hosts), there)
    assert finding.message == f"{hosts} names 1 hosts, and there are to be 2 machines"
    assert preflight(over_ssh(small(), hosts, exclusion_filter="three"), there) == []
    hosts.write_text("one slots=1\ntwo slots=1\n")
    assert preflight(over_ssh(small(), hosts), there) == []
    (finding,) = preflight(over_ssh(small(), hosts), missing)
    assert (finding.field, finding.exit_code) == ("accelerate.ds_launcher", ExitCode.CANNOT_RUN_HERE)


# checkpoints


def checkpoint_of(plan: Plan, step: int, **facts) -> Path:
    """A checkpoint that a run of this plan could have made, but for some facts."""
    mine = identity(plan.settings.deepspeed_json(), plan.settings.training, deepspeed=True, world_size=1, pictures=())
    path = plan.run_dir / "checkpoints" / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / FACTS).write_text(json.dumps({**mine.facts(), **facts}))
    mark(path)
    return path


def of_resume(plan: Plan) -> list[str]:
    return [each.message for each in preflight(plan, GOOD) if each.field == "training.resume_from_checkpoint"]


def test_a_checkpoint_of_another_stage_is_refused_with_the_command_that_converts_it(small):
    plan = small()
    path = checkpoint_of(plan, 3, zero_stage=1)
    (message,) = of_resume(plan)
    assert f"run: simpletuner-tui convert {path} - it makes" in message
    shutil.copytree(path, path.with_name("checkpoint-3-universal"))
    converted = path.with_name("checkpoint-3-universal") / FACTS
    converted.write_text(json.dumps({**json.loads(converted.read_text()), "form": "universal"}))
    mark(converted.parent)
    assert of_resume(plan) == []


def test_a_named_checkpoint_must_be_there_and_whole(small):
    plan = small(resume_from_checkpoint="checkpoint-7")
    checkpoint_of(plan, 3)
    damaged = checkpoint_of(plan, 9)
    (message,) = of_resume(plan)
    assert message.endswith("checkpoint-7 is not there; checkpoints that can be resumed: checkpoint-3, checkpoint-9")
    (damaged / FACTS).write_text("{}")
    (message,) = of_resume(small(resume_from_checkpoint="checkpoint-9"))
    assert f"{FACTS} has 2 bytes instead of" in message
    assert "checkpoint-3 is an older one that is whole" in message
    assert of_resume(small(resume_from_checkpoint="checkpoint-3")) == []


def test_checkpoints_of_weights_alone_are_a_warning(small):
    finding = only(small(checkpoint_contents="weights"))
    assert (finding.field, finding.level) == ("training.checkpoint_contents", Level.WARNING)
    assert "cannot be continued" in finding.message
