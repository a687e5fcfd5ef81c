"""The optimizer: its name, and what the classes behind it take."""

from collections.abc import Mapping

from launcher.deepspeed.fields.field import Field, Group, Kind

_P = "optimizer.params"

CANONICAL = (
    "AdamW",
    "Adam",
    "Adagrad",
    "Lamb",
    "OneBitAdam",
    "OneBitLamb",
    "ZeroOneAdam",
    "MuAdam",
    "MuAdamW",
    "MuSGD",
    "Lion",
    "Muon",
)
"""Names DeepSpeed has or had, in their usual spelling; which of them it still has, the installed one says."""

OFFERED = ("AdamW", "Adam", "Adagrad", "Lion", "Muon")
"""Those that train a U-Net; the others and why not are among the rules."""

_EVERY_ADAM = ("lr", "betas", "eps", "weight_decay", "adam_w_mode", "torch_adam", "fp32_optimizer_states")
_TORCH = ("foreach", "maximize", "differentiable", "fused")

PARAMETERS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("adam", "gpu"): (*_EVERY_ADAM, "bias_correction", "set_grad_none"),
    ("adam", "cpu"): (*_EVERY_ADAM, "bias_correction"),
    ("adam", "torch"): (*_EVERY_ADAM, "amsgrad", "capturable", *_TORCH),
    ("adagrad", "gpu"): ("lr", "eps", "weight_decay", "lr_decay", "initial_accumulator_value", *_TORCH),
    ("adagrad", "cpu"): ("lr", "eps", "weight_decay", "fp32_optimizer_states"),
    ("lion", "gpu"): ("lr", "betas", "weight_decay", "set_grad_none"),
    ("lion", "cpu"): ("lr", "betas", "weight_decay", "fp32_optimizer_states"),
    ("lamb", "gpu"): (
        "lr",
        "bias_correction",
        "betas",
        "eps",
        "eps_inside_sqrt",
        "weight_decay",
        "max_coeff",
        "min_coeff",
    ),
    ("muon", "gpu"): ("lr", "muon_lr", "adam_lr", "momentum", "ns_method", *_EVERY_ADAM[1:]),
}
"""What each class takes, by DeepSpeed's name and where it runs (``torch``: with ``torch_adam``).

Another parameter is a TypeError when the engine starts; amsgrad stops DeepSpeed's own Adams, and CPUAdagrad ignores it.
Muon ignores every other.
"""


def parameters_of(optimizer: str, *, offloaded: bool, torch_adam: bool) -> tuple[str, ...] | None:
    """What the class behind an optimizer takes; None where it is not known.

    Args:
        optimizer: DeepSpeed's name in any case.
        offloaded: the optimizer runs on the CPU.
        torch_adam: ``optimizer.params.torch_adam`` is on; Adam and AdamW alone know it.
    """
    name = optimizer.lower().replace("adamw", "adam")
    place = "cpu" if offloaded else "gpu"
    if name == "adam" and torch_adam:
        place = "torch"
    return PARAMETERS.get((name, place if (name, place) in PARAMETERS else "gpu"))


OPTIMIZER = (
    Field(
        "optimizer.type",
        Kind.TEXT,
        None,
        "The optimizer.",
        Group.OPTIMIZER,
        effect="Adam is AdamW too unless adam_w_mode is off; Lion and Adagrad keep one moment, Adam two. Muon keeps "
        "one for matrices, 87 % of SDXL's weights; the rest is Adam's.",
        basic=True,
    ),
    Field(
        f"{_P}.lr",
        Kind.FLOAT,
        1e-3,
        "Learning rate after warm-up.",
        Group.OPTIMIZER,
        effect="The run's own where left out; some schedules override it.",
        minimum=0,
        basic=True,
    ),
    Field(
        f"{_P}.betas",
        Kind.NUMBERS,
        (0.9, 0.999),
        "Decay rates of the two moments.",
        Group.OPTIMIZER,
        minimum=0,
        basic=True,
    ),
    Field(f"{_P}.eps", Kind.FLOAT, 1e-8, "Added to the denominator of the update.", Group.OPTIMIZER, minimum=0),
    Field(
        f"{_P}.weight_decay",
        Kind.FLOAT,
        0.0,
        "Weight decay.",
        Group.OPTIMIZER,
        effect="Decoupled from the gradient unless adam_w_mode is off.",
        minimum=0,
        basic=True,
    ),
    Field(
        f"{_P}.bias_correction",
        Kind.BOOL,
        True,
        "Correct the moments for having begun at zero.",
        Group.OPTIMIZER,
    ),
    Field(
        f"{_P}.adam_w_mode",
        Kind.BOOL,
        True,
        "Decoupled weight decay for Adam; AdamW has it whatever this says.",
        Group.OPTIMIZER,
    ),
    Field(
        f"{_P}.torch_adam",
        Kind.BOOL,
        False,
        "torch's own Adam instead of DeepSpeed's.",
        Group.OPTIMIZER,
        effect="Nothing is compiled; with fused it offloads as fast as DeepSpeed's CPUAdam.",
    ),
    Field(
        f"{_P}.fused",
        Kind.BOOL,
        None,
        "torch's fused update.",
        Group.OPTIMIZER,
        effect="7 times as fast as the unfused on the CPU.",
    ),
    Field(f"{_P}.foreach", Kind.BOOL, None, "torch's update over lists of tensors.", Group.OPTIMIZER),
    Field(f"{_P}.amsgrad", Kind.BOOL, False, "Keep the largest second moment; torch's Adam alone.", Group.OPTIMIZER),
    Field(
        f"{_P}.fp32_optimizer_states",
        Kind.BOOL,
        True,
        "Moments in fp32 whatever the weights are.",
        Group.OPTIMIZER,
    ),
    Field(f"{_P}.set_grad_none", Kind.BOOL, True, "Free gradients instead of zeroing them.", Group.OPTIMIZER),
    Field(f"{_P}.lr_decay", Kind.FLOAT, 0, "Adagrad: decay of the learning rate.", Group.OPTIMIZER, minimum=0),
    Field(
        f"{_P}.initial_accumulator_value",
        Kind.FLOAT,
        0,
        "Adagrad: what the sum of squares begins at.",
        Group.OPTIMIZER,
        minimum=0,
    ),
    Field(
        f"{_P}.muon_lr",
        Kind.FLOAT,
        1e-3,
        "Muon: learning rate of matrices; lr where left out.",
        Group.OPTIMIZER,
        effect="Its update is 0.028 an element in a matrix 1280 wide, where Adam's is 0.2 as a rule.",
        minimum=0,
    ),
    Field(
        f"{_P}.adam_lr",
        Kind.FLOAT,
        1e-3,
        "Muon: learning rate of what is no matrix; lr where left out.",
        Group.OPTIMIZER,
        minimum=0,
    ),
    Field(
        f"{_P}.momentum",
        Kind.FLOAT,
        0.95,
        "Muon: decay rate of its one moment.",
        Group.OPTIMIZER,
        minimum=0,
        maximum=1,
    ),
    Field(
        f"{_P}.ns_method",
        Kind.TEXT,
        "gram",
        "Muon: how an update is made orthogonal.",
        Group.OPTIMIZER,
        effect="gram takes fewer operations for matrices that are not square, in fp16; standard is in bf16.",
        choices=("gram", "standard"),
    ),
    Field(f"{_P}.max_coeff", Kind.FLOAT, 10.0, "Lamb: largest scale of a layer's update.", Group.OPTIMIZER, minimum=0),
    Field(f"{_P}.min_coeff", Kind.FLOAT, 0.01, "Lamb: smallest scale of a layer's update.", Group.OPTIMIZER, minimum=0),
    Field(
        f"{_P}.eps_inside_sqrt",
        Kind.BOOL,
        False,
        "Lamb: add eps before the square root is taken.",
        Group.OPTIMIZER,
    ),
)
