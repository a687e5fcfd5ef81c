"""Number formats, FP8 among them; texts of accelerate 1.15.0."""

from launcher.config.accelerate import NOT_LAUNCHED
from simpletuner_tui.questions.accelerate.common import ACCELERATORS, ON_CPU, TPU, Section, answer, at_least
from simpletuner_tui.questions.conditions import AllOf, AnyOf, Not, Probe
from simpletuner_tui.questions.model import Choice, Question, Sets

ask = Section("accelerate")
ask_fp8 = Section("accelerate, FP8")

PRECISIONS = (
    Choice("no", "no"),
    Choice("fp16", "fp16"),
    Choice("bf16", "bf16"),
    Choice("fp8", "fp8", NOT_LAUNCHED["fp8"]),
)
TF32 = (
    "Torch dynamo used without mixed precision requires TF32 to be efficient. Accelerate will enable it by default "
    "when launching your scripts."
)

FP8, AO = answer("mixed_precision", "fp8"), answer("fp8_backend", "AO")
TE, MSAMP = answer("fp8_backend", "TE"), answer("fp8_backend", "MSAMP")
OVERRIDE = "fp8_config.override_linear_precision"


def higher(item: int, name: str) -> Question:
    """One of the three multiplications of a linear layer."""
    text = f"Should `{name}` be executed in higher precision? [yes/NO]: "
    return ask_fp8.yes_no(f"te_{name}", text, Sets(OVERRIDE, item=item), when=answer("te_override", True))


PRECISION = (
    ask.menu(
        "mixed_precision",
        "Do you wish to use mixed precision?",
        PRECISIONS,
        "mixed_precision",
        when=AllOf(answer("machine", "NO", "MULTI_CPU", *ACCELERATORS), Not(answer("ds_use_json", True))),
        help="bf16 halves the weights on the GPU and keeps fp32 masters on the host; right for every card since 2020. "
        "fp16 is for older ones and scales the loss so that small gradients survive; no trains in fp32.",
    ),
    ask_fp8.stop(
        "stop_fp8",
        "FP8 (either torchao, Transformer Engine or MSAMP) is not installed on this machine.",
        FP8,
        Not(Probe("fp8")),
    ),
    ask_fp8.menu(
        "fp8_backend",
        "Which FP8 backend do you want to use?",
        (Choice("ao", "AO"), Choice("te", "TE"), Choice("msamp", "MSAMP")),
        "fp8_config.backend",
        when=FP8,
        help="torchao, NVIDIA's Transformer Engine, or Microsoft's MS-AMP.",
    ),
    ask_fp8.stop(
        "stop_te",
        "TransformersEngine was selected, but it is not installed on this machine.",
        TE,
        Not(Probe("transformer_engine")),
    ),
    ask_fp8.yes_no(
        "te_eval",
        "Do you want to use FP8 autocast during eval mode? Generally better metrics are found when this is disabled "
        "[yes/NO]: ",
        "fp8_config.use_autocast_during_eval",
        when=TE,
    ),
    ask_fp8.number(
        "te_margin",
        "What margin should be used for gradient scaling? [0]: ",
        "fp8_config.margin",
        default=0,
        when=TE,
    ),
    ask_fp8.number(
        "te_interval",
        "What interval should be used for how often the scaling factor is recomputed? [1]: ",
        "fp8_config.interval",
        default=1,
        when=TE,
        check=at_least(1),
    ),
    ask_fp8.menu(
        "te_format",
        "Which weight format should be used?",
        ("HYBRID", "E4M3", "E5M2"),
        "fp8_config.fp8_format",
        when=TE,
    ),
    ask_fp8.number(
        "te_amax_len",
        "What length of history should be used for the amax scaling factor computation? [1024]: ",
        "fp8_config.amax_history_length",
        default=1024,
        when=TE,
        check=at_least(1),
    ),
    ask_fp8.menu(
        "te_amax_algo",
        "Which algorithm should be used for the amax scaling factor computation?",
        ("max", "most_recent"),
        "fp8_config.amax_compute_algorithm",
        when=TE,
    ),
    ask_fp8.yes_no(
        "te_override",
        "Do you want to execute `fprop`, `dgrad`, and `wgrad` GEMMS in higher precision? [yes/NO]: ",
        Sets(OVERRIDE, constant=(False, False, False), when=answer("te_override", False)),
        when=TE,
    ),
    higher(0, "fprop"),
    higher(1, "dgrad"),
    higher(2, "wgrad"),
    ask_fp8.stop(
        "stop_msamp",
        "MSAMP was selected, but it is not installed on this machine.",
        MSAMP,
        Not(Probe("msamp")),
    ),
    ask_fp8.menu(
        "ms_level",
        "Which optimization level should be used?",
        ("O1", "O2"),
        "fp8_config.optimization_level",
        default="O2",
        when=MSAMP,
    ),
    ask_fp8.stop(
        "stop_ao",
        "torchao was selected, but it is not installed on this machine.",
        AO,
        Not(Probe("torchao")),
    ),
    ask_fp8.yes_no(
        "ao_gather",
        "Do you want to enable FSDP2 float8 all gather? This is recommended for better performance if using FSDP2. "
        "[YES/no]: ",
        "fp8_config.enable_fsdp_float8_all_gather",
        default=True,
        when=AO,
    ),
    ask_fp8.yes_no(
        "ao_pad",
        "Do you want to pad the inner dimension of weight matrices before float8 matmuls? This is required for "
        "_scaled_mm which has strict alignment requirements. Note: padding may cause memory spikes. [YES/no]: ",
        "fp8_config.pad_inner_dim",
        default=True,
        when=AO,
    ),
    ask.note(
        "note_tf32",
        TF32,
        AllOf(answer("use_dynamo", True), AnyOf(TPU, answer("mixed_precision", "no")), Not(ON_CPU)),
    ),
)
