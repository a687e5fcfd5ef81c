"""What a file says and `accelerate launch` ignores: the installed accelerate is asked what it would do."""

import copy
import json
import os
import subprocess
import sys

import pytest
import yaml

from launcher.config.ignored_by_launch import ignored_by_accelerate_launch

LOCAL = {
    "compute_environment": "LOCAL_MACHINE",
    "debug": False,
    "distributed_type": "NO",
    "downcast_bf16": "no",
    "enable_cpu_affinity": False,
    "gpu_ids": "all",
    "machine_rank": 0,
    "main_training_function": "main",
    "mixed_precision": "bf16",
    "num_machines": 1,
    "num_processes": 1,
    "rdzv_backend": "static",
    "same_network": True,
    "tpu_env": [],
    "tpu_use_cluster": False,
    "tpu_use_sudo": False,
    "use_cpu": False,
}
SEVERAL = {
    "num_machines": 2,
    "num_processes": 4,
    "machine_rank": 1,
    "main_process_ip": "10.0.0.1",
    "main_process_port": 29511,
    "same_network": False,
}
GPUS = {**LOCAL, "distributed_type": "MULTI_GPU", "num_processes": 2}
CPUS = {**LOCAL, "distributed_type": "MULTI_CPU", "num_processes": 2, "use_cpu": True}
TPU = {**LOCAL, "distributed_type": "XLA", "mixed_precision": "no"}
ZERO = {"zero_stage": 3, "gradient_accumulation_steps": 2, "gradient_clipping": 1.0, "zero3_init_flag": False}
NVME = {
    **ZERO,
    "offload_optimizer_device": "nvme",
    "offload_param_device": "nvme",
}
DEEPSPEED = {**LOCAL, "distributed_type": "DEEPSPEED", "deepspeed_config": ZERO}
STANDARD = {
    **DEEPSPEED,
    **SEVERAL,
    "deepspeed_config": {**ZERO, "deepspeed_multinode_launcher": "standard"},
}
PDSH = {"deepspeed_multinode_launcher": "pdsh", "deepspeed_hostfile": "hosts", "deepspeed_exclusion_filter": "a:0"}
DYNAMO = {
    "dynamo_backend": "AOT_EAGER",
    "dynamo_mode": "reduce-overhead",
    "dynamo_use_fullgraph": True,
    "dynamo_use_dynamic": True,
    "dynamo_use_regional_compilation": True,
}
FP8 = {"backend": "TE", "margin": 1, "interval": 2, "fp8_format": "E4M3", "use_autocast_during_eval": True}

Case = tuple[dict, str, object]
"""A file, the path of a key in it, and what the key says there."""

IGNORED: list[Case] = [
    (DEEPSPEED, "dynamo_config", DYNAMO),
    *((file, "enable_cpu_affinity", True) for file in (LOCAL, GPUS, DEEPSPEED)),
    (CPUS, "num_processes", 3),
    *((file, "rdzv_backend", "c10d") for file in (GPUS | SEVERAL, STANDARD)),
    *((file, "same_network", True) for file in (GPUS | SEVERAL, STANDARD)),
    ({**DEEPSPEED, **SEVERAL, "deepspeed_config": {**ZERO, **PDSH}}, "machine_rank", 2),
    (TPU, "downcast_bf16", "yes"),
    (TPU, "tpu_use_sudo", "yes"),
    *(
        ({**DEEPSPEED, "deepspeed_config": NVME}, f"deepspeed_config.{part}_nvme_path", "/fast")
        for part in ("offload_optimizer", "offload_param")
    ),
    (
        {**DEEPSPEED, **SEVERAL, "deepspeed_config": {**ZERO, **PDSH}},
        "deepspeed_config.deepspeed_inclusion_filter",
        "b:1",
    ),
    *(
        ({**GPUS, "mixed_precision": "fp8", "fp8_config": FP8}, f"fp8_config.{key}", value)
        for key, value in (
            ("amax_history_length", 16),
            ("amax_compute_algorithm", "max"),
            ("optimization_level", "O1"),
        )
    ),
]
HEEDED: list[Case] = [
    *((file, "dynamo_config", DYNAMO) for file in (LOCAL, GPUS, CPUS)),
    *((file, "mixed_precision", "fp16") for file in (LOCAL, GPUS, DEEPSPEED)),
    *((file, "num_processes", 3) for file in (GPUS, DEEPSPEED)),
    *((file, "debug", True) for file in (LOCAL, GPUS, DEEPSPEED)),
    *((file, "gpu_ids", "0,2") for file in (LOCAL, GPUS)),
    (LOCAL, "use_cpu", True),
    (CPUS | {"num_processes": 4}, "mpirun_config", {"mpirun_hostfile": "hosts"}),
    *(
        (file, key, value)
        for file in (GPUS | SEVERAL, STANDARD)
        for key, value in (("machine_rank", 0), ("main_process_ip", "10.0.0.2"), ("main_process_port", 29512))
    ),
    *(
        (DEEPSPEED, f"deepspeed_config.{key}", value)
        for key, value in (
            ("zero_stage", 1),
            ("gradient_accumulation_steps", 3),
            ("gradient_clipping", 0.5),
            ("zero3_init_flag", True),
            ("zero3_save_16bit_model", True),
            ("offload_optimizer_device", "cpu"),
            ("offload_param_device", "cpu"),
            ("deepspeed_config_file", "ds.json"),
            ("deepspeed_moe_layer_cls_names", "Block"),
        )
    ),
    (
        {**DEEPSPEED, **SEVERAL, "deepspeed_config": {**ZERO, "deepspeed_hostfile": "hosts"}},
        "deepspeed_config.deepspeed_inclusion_filter",
        "b:1",
    ),
    *(
        ({**GPUS, "mixed_precision": "fp8", "fp8_config": FP8}, f"fp8_config.{key}", value)
        for key, value in (("margin", 2), ("interval", 3), ("fp8_format", "E5M2"), ("use_autocast_during_eval", False))
    ),
]

JUDGE = """
import json, os, sys
from accelerate.commands import launch
from accelerate.utils import dataclasses, launch as prepared

dataclasses.is_transformer_engine_available = dataclasses.is_msamp_available = lambda: True
launch.is_fp8_available = prepared.is_fp8_available = lambda: True
prepared.is_port_in_use = lambda port: False  # whoever else uses one here
prepared._get_mpirun_args = lambda: ("mpirun", "-f", "-n", "-ppn", "")
OF_TORCHRUN = ("nproc_per_node", "nnodes", "node_rank", "master_addr", "master_port", "rdzv_endpoint", "rdzv_backend")
OF_TPU = ("downcast_bf16", "tpu_use_sudo", "tpu_use_cluster")


def recipes(environment):
    # What becomes of the FP8 variables: the names alone would differ for a key that nothing reads.
    kept = {name: value for name, value in environment.items() if not name.startswith("ACCELERATE_FP8_")}
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        made = dataclasses.TERecipeKwargs(), dataclasses.MSAMPRecipeKwargs()
        return kept | {type(recipe).__name__: vars(recipe) for recipe in made}
    finally:
        os.environ.clear()
        os.environ.update(before)


def elastic(environment, args):
    return {"environment": recipes(environment), "torchrun": {name: getattr(args, name, None) for name in OF_TORCHRUN}}


def simple(args):
    command, environment = prepared.prepare_simple_launcher_cmd_env(args)
    if command[0] != "mpirun":
        # Where the only process would look for others that are never started.
        environment = {key: value for key, value in environment.items() if key not in ("MASTER_ADDR", "MASTER_PORT")}
    return {"command": command, "environment": recipes(environment)}


def deepspeed(args):
    command, environment = prepared.prepare_deepspeed_cmd_env(args)
    environment["ACCELERATE_CONFIG_DS_FIELDS"] = ""  # names what the file holds, whatever becomes of it
    return {"command": command, **elastic(environment, args)}


def tpu(args):
    return {"tpu": {name: getattr(args, name) for name in OF_TPU}}


does = {}
launch.simple_launcher = lambda args: does.update(simple(args))
launch.multi_gpu_launcher = lambda args: does.update(elastic(prepared.prepare_multi_gpu_env(args), args))
launch.deepspeed_launcher = lambda args: does.update(deepspeed(args))
launch.tpu_launcher = launch.tpu_pod_launcher = lambda args: does.update(tpu(args))
for path in json.load(sys.stdin):
    does = {}
    launch.launch_command(launch.launch_command_parser().parse_args(["--config_file", path, "train.py"]))
    print("DOES", json.dumps(does, default=str))
"""


def placed(file: dict, path: str, value: object) -> dict:
    content = copy.deepcopy(file)
    *sections, key = path.split(".")
    section = content
    for name in sections:
        section = section[name]
    section[key] = value
    return content


@pytest.fixture(scope="module")
def launches(tmp_path_factory):
    """What accelerate would do for files without and with each key; in a process of its own: this one has no torch."""
    folder = tmp_path_factory.mktemp("files")
    paths = []
    for number, (file, *said) in enumerate([*IGNORED, *HEEDED]):
        for name, content in (("without", file), ("with", placed(file, *said))):
            path = folder / f"{number}-{name}.yaml"
            path.write_text(yaml.safe_dump(content))
            paths.append(str(path))
    ran = subprocess.run(
        [sys.executable, "-c", JUDGE],
        input=json.dumps(paths),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    does = [json.loads(line.removeprefix("DOES ")) for line in ran.stdout.splitlines() if line.startswith("DOES ")]
    return list(zip(does[::2], does[1::2], strict=True))


def named(content: dict) -> list[str]:
    return [sentence.split(": ")[0] for sentence in ignored_by_accelerate_launch(content)]


@pytest.mark.parametrize("number", range(len(IGNORED)), ids=[path for _, path, _ in IGNORED])
def test_what_is_said_to_be_ignored_changes_nothing_for_accelerate_launch(launches, number):
    file, path, value = IGNORED[number]
    without, with_it = launches[number]
    assert without == with_it
    assert with_it
    assert path in named(placed(file, path, value))


@pytest.mark.parametrize("number", range(len(HEEDED)), ids=[path for _, path, _ in HEEDED])
def test_what_changes_what_accelerate_launch_does_is_not_said_to_be_ignored(launches, number):
    file, path, value = HEEDED[number]
    without, with_it = launches[len(IGNORED) + number]
    assert without != with_it
    assert path not in named(placed(file, path, value))


@pytest.mark.parametrize("file", [LOCAL, GPUS, DEEPSPEED, TPU, GPUS | SEVERAL, STANDARD], ids=str)
def test_of_a_file_that_says_none_of_it_nothing_is_told(file):
    assert ignored_by_accelerate_launch(file) == ()


def test_a_sentence_says_what_a_launch_from_here_does():
    (sentence,) = ignored_by_accelerate_launch({**LOCAL, "enable_cpu_affinity": True})
    assert sentence == (
        "enable_cpu_affinity: accelerate launch takes it only from its command line (--enable_cpu_affinity); a launch "
        "from here passes it"
    )


def test_sagemaker_files_are_not_launched_by_accelerate_at_all():
    file = {
        "compute_environment": "AMAZON_SAGEMAKER",
        "distributed_type": "NO",
        "num_machines": 2,
        "same_network": True,
    }
    assert ignored_by_accelerate_launch(file) == ()
