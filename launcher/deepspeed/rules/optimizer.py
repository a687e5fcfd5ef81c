"""What each optimizer needs, and what it does other than its name says."""

from launcher.config.setting import Level
from launcher.deepspeed.fields.optimizer import parameters_of
from launcher.deepspeed.rules.precision import precision
from launcher.deepspeed.rules.rule import Rule
from launcher.deepspeed.run_facts import SDXL_PARAMETERS, RunFacts
from launcher.deepspeed.view import View

_TYPE = "optimizer.type"
_P = "optimizer.params"
_BETAS = f"{_P}.betas"

SDXL_MATRICES = 2_225_356_800
"""Elements of the 739 weights of SDXL's U-Net that Muon updates: those with two dimensions that are no embedding."""
SDXL_MUON_NORM = 1204
"""Global norm of Muon's update of them: of each it is the square root of the smaller side, times that of rows / columns
where there are more rows."""


def _untaken(view: View) -> list[str]:
    params = view.raw(_P)
    torch_adam = bool(view.get(f"{_P}.torch_adam"))
    known = parameters_of(view.optimizer, offloaded=view.offloads, torch_adam=torch_adam)
    if known is None or not isinstance(params, dict):
        return []
    return [key for key in params if key not in known]


def _muon_moves(run: RunFacts) -> float:
    """Bytes that Muon moves over PCIe at each step beyond what Adam does, one way: fp32 gradients and momentum."""
    return 8 * SDXL_MATRICES * run.parameters / SDXL_PARAMETERS / run.world_size


def _not_two_betas(view: View, _: RunFacts) -> bool:
    betas = view.get(_BETAS)
    return len(betas) != 2 or not all(beta < 1 for beta in betas)


OPTIMIZER = (
    Rule(
        "optimizer-missing",
        (_TYPE, "optimizer"),
        lambda view, _: not view.has("optimizer") or (isinstance(view.raw("optimizer"), dict) and not view.has(_TYPE)),
        "without an optimizer DeepSpeed stops at stages 1 and 2, and trains nothing at 3",
        "choose AdamW",
        "run: AssertionError, zero stage 2 requires an optimizer",
    ),
    Rule(
        "optimizer-blank",
        (_TYPE,),
        lambda view, _: isinstance(view.raw(_TYPE), str) and not view.optimizer,
        "the optimizer's name is blank",
        "choose AdamW",
        "run: AssertionError, is not a supported DeepSpeed Optimizer",
    ),
    Rule(
        "optimizer-parameter",
        (_P,),
        lambda view, _: view.optimizer != "muon" and bool(_untaken(view)),
        lambda view, _: f"{view.get(_TYPE)} does not take {', '.join(_untaken(view))}",
        "take it out",
        "run: TypeError, got an unexpected keyword argument",
    ),
    Rule(
        "muon-ignores",
        (_P,),
        lambda view, _: view.optimizer == "muon" and bool(_untaken(view)),
        lambda view, _: f"Muon ignores {', '.join(_untaken(view))} without a word",
        "take it out",
        "run: the same weights with and without it",
        Level.WARNING,
    ),
    Rule(
        "muon-per-head",
        (f"{_P}.per_head_muon",),
        lambda view, _: view.optimizer == "muon" and view.raw(f"{_P}.per_head_muon") is True,
        "Muon counts heads by a language model's configuration, and SDXL's U-Net has none",
        "take it out",
        "run: ValueError, no attention projection could be tagged",
    ),
    Rule(
        "two-betas",
        (_BETAS,),
        _not_two_betas,
        "must be two numbers below 1, such as 0.9 and 0.999; at 1 CPUAdam makes every weight NaN without a word",
        "set them so",
        "run: IndexError, ValueError, and NaN in every weight",
    ),
    Rule(
        "muon-elsewhere",
        (_TYPE,),
        lambda view, _: view.optimizer == "muon",
        "Muon takes matrices alone, and DeepSpeed gives it convolutions too, at which it stops: the training here "
        "leaves them to its Adam, another program's would have to",
        "choose AdamW to train with another",
        "run: RuntimeError, The size of tensor a must match the size of tensor b, at every stage and offload",
        Level.WARNING,
    ),
    Rule(
        "muon-and-clipping",
        ("gradient_clipping", _TYPE),
        lambda view, _: view.optimizer == "muon" and view.stage > 0 and view.get("gradient_clipping") > 0,
        lambda view, _: (
            "from stage 1 on DeepSpeed clips Muon's update instead of its gradient, and that has a norm of about "
            f"{SDXL_MUON_NORM:,} for SDXL whatever the gradients are: at {view.get('gradient_clipping'):g} Muon learns "
            f"at {view.get('gradient_clipping') / SDXL_MUON_NORM:.1g} of its learning rate"
        ),
        "set gradient_clipping to 0",
        "run: a norm of 50 for the demo's 135 matrices, and a 50th of the step without clipping",
        Level.WARNING,
    ),
    Rule(
        "muon-travels",
        (_TYPE,),
        lambda view, _: view.optimizer == "muon" and view.offloads and view.stage > 0,
        lambda view, run: (
            "offloaded, Muon moves gradients and momentum to the GPU and back at each step, in fp32: "
            f"{_muon_moves(run) / 1e9:.0f} GB each way beyond what AdamW moves"
        ),
        "choose AdamW where PCIe is what steps wait for",
        "code: deepspeed/runtime/zero/stage_1_and_2.py and stage3.py, _apply_muon_updates_cpu_offload",
        Level.WARNING,
    ),
    Rule(
        "muon-and-reduce-scatter",
        (_TYPE, "zero_optimization.reduce_scatter"),
        lambda view, _: view.optimizer == "muon" and view.stage == 3 and view.get("zero_optimization.reduce_scatter"),
        "Muon cannot do with reduce_scatter at stage 3",
        "turn zero_optimization.reduce_scatter off",
        "run: ValueError, Muon and reduce scatter cannot be used together",
    ),
    Rule(
        "mu-needs-shapes",
        (_TYPE,),
        lambda view, _: view.optimizer in ("muadam", "muadamw", "musgd"),
        lambda view, _: (
            f"{view.get(_TYPE)} needs the package mup and base shapes set on the model, which SDXL's U-Net has not"
        ),
        "choose AdamW",
        "run: UnboundLocalError, cannot access local variable 'MuAdam'; with mup it wants set_base_shapes",
    ),
    Rule(
        "lamb-unproven",
        (_TYPE,),
        lambda view, _: view.optimizer == "lamb",
        "Lamb exists as a CUDA extension that ZeRO has not tried: stages 1 to 3 refuse it without "
        "zero_allow_untested_optimizer, and under offload it would get the CPU's tensors",
        "choose AdamW",
        "code: FusedLamb is not in ZERO_SUPPORTED_OPTIMIZERS; a GPU shows the rest",
    ),
    Rule(
        "adagrad-at-stage-0",
        (_TYPE,),
        lambda view, _: (
            view.stage == 0 and view.optimizer == "adagrad" and precision(view) != "fp32" and not view.offloads
        ),
        "at stage 0 in 16 bits Adagrad loses its sums: DeepSpeed puts masters in its weights' place, and the sums stay "
        "beside the weights; on a GPU it does not start, on a CPU it cannot be saved",
        "choose stage 1, or AdamW",
        "run in bf16: on a GPU KeyError, 'sum'; on a CPU KeyError in save_checkpoint",
    ),
    Rule(
        "lion-needs-offload",
        (_TYPE,),
        lambda view, _: view.optimizer == "lion" and not view.offloads,
        "Lion without offload needs a CUDA extension that is not proven here",
        "offload the optimizer to cpu, or choose AdamW",
        "run: FusedLion is refused on a CPU; on a GPU it trained at stage 2, and nothing else was tried",
    ),
    Rule(
        "adam-is-adamw",
        (_TYPE,),
        lambda view, _: (
            view.optimizer == "adam" and view.get(f"{_P}.adam_w_mode") and view.get(f"{_P}.weight_decay") > 0
        ),
        "DeepSpeed's Adam is AdamW: its weight decay is decoupled from the gradient",
        f"call it AdamW, or turn {_P}.adam_w_mode off",
        "run: the same weights as AdamW's",
        Level.WARNING,
    ),
    Rule(
        "adamw-stays-adamw",
        (f"{_P}.adam_w_mode",),
        lambda view, _: view.optimizer == "adamw" and not view.get(f"{_P}.adam_w_mode"),
        "has no effect: the name AdamW says decoupled weight decay whatever this says",
        "call the optimizer Adam for weight decay in the gradient",
        "run: the same weights with and without it",
        Level.WARNING,
    ),
    Rule(
        "unfused-on-the-cpu",
        (f"{_P}.fused", f"{_P}.torch_adam"),
        lambda view, _: (
            view.optimizer in ("adam", "adamw")
            and view.offloads
            and view.get(f"{_P}.torch_adam")
            and not view.get(f"{_P}.fused")
        ),
        "torch's Adam is 7 times slower on the CPU without fused",
        f"turn {_P}.fused on",
        "run: 3.61 against 0.52 ns a parameter",
        Level.WARNING,
    ),
)
