"""``measure``: how fast this machine moves and computes, which the seconds of a step follow from."""

from argparse import Namespace

from launcher.errors import ExitCode
from launcher.machine.bandwidths import Bandwidths, BlockSpeed, GpuSpeed, this_hardware
from launcher.machine.host import read_host
from launcher.machine.measuring import ToMeasure, begin
from simpletuner_tui.commands.deepspeed_check import print_json
from simpletuner_tui.costs import MEASURING
from simpletuner_tui.messages import tell, wait_in_seconds
from simpletuner_tui.paths import typed_path
from simpletuner_tui.text import table

KEPT = "kept: estimate, plan and the cost pane tell the seconds of a step from now on"
HOST_ONLY = "kept; the seconds of a step are told of machines with a GPU"


def measure(arguments: Namespace) -> ExitCode:
    """``measure [--nvme FOLDER]``: measures, keeps the figures and prints them; Ctrl-C leaves nothing.

    Raises:
        LauncherError: this machine cannot be measured now, or the probe failed.
    """
    nvme = str(typed_path(arguments.nvme).absolute()) if arguments.nvme else ""
    probe = begin(ToMeasure(this_hardware(arguments.threads or read_host().cores), nvme))
    try:
        wait_in_seconds(lambda: probe.ended, f"{MEASURING}; leave it to itself meanwhile, Ctrl-C stops it")
    except BaseException:  # Ctrl-C too, which the probe may not have seen
        probe.stop()
        raise
    measured = probe.result()
    if arguments.json:
        print_json(measured.to_json())
    else:
        print("\n".join(speed_lines(measured)))  # noqa: T201
    tell(KEPT if measured.gpu else HOST_ONLY)
    return ExitCode.OK


def speed_lines(measured: Bandwidths) -> list[str]:
    """What was measured, a line for each thing that a step waits for."""
    hardware, host, drive = measured.hardware, measured.host, measured.drive
    threads = f"{hardware.threads} thread{'s' if hardware.threads > 1 else ''}"
    rows = _of_gpu(measured.gpu)
    rows.append((f"Host memory, {threads}", f"{host.copy_gb_s:,.1f} GB/s read and written"))
    rows.append((f"CPU Adam, {threads}", f"{host.adam_elements_s / 1e6:,.0f} million elements/s, {host.adam}"))
    one_pass = host.one_pass_elements_s
    told = f"{one_pass / 1e6:,.0f} million elements/s, clipped and rounded" if one_pass else "it does not compile here"
    rows.append(("The same in one pass", told))
    if drive:
        rows.append((f"Drive of {drive.path}", f"{drive.read_gb_s:.1f} GB/s read, {drive.write_gb_s:.1f} written"))
    if measured.gpu:
        what = hardware.gpu or "the GPU"
    else:
        what = f"the host alone: torch can use no GPU here{f', not even the {hardware.gpu}' if hardware.gpu else ''}"
    return [f"Measured in {measured.seconds:.0f} s: {what}", *(f"  {line}" for line in table(rows))]


def _of_gpu(gpu: GpuSpeed | None) -> list[tuple[str, str]]:
    if gpu is None:
        return []
    return [
        ("PCIe, pinned memory", f"{gpu.up_gb_s:.1f} GB/s up, {gpu.down_gb_s:.1f} down"),
        ("PCIe, pageable memory", f"{gpu.up_pageable_gb_s:.1f} GB/s up, {gpu.down_pageable_gb_s:.1f} down"),
        ("GPU memory", f"{gpu.copy_gb_s:,.0f} GB/s read and written"),
        ("GPU launch overhead", f"{gpu.op_seconds * 1e6:.1f} microseconds an operation"),
        ("Transformer block, bf16", _computes(gpu.transformer)),
        ("ResNet block, bf16", _computes(gpu.resnet)),
    ]


def _computes(block: BlockSpeed) -> str:
    return f"{block.large.forward_tflops:.0f} TFLOP/s forward, {block.large.backward_tflops:.0f} backward"
