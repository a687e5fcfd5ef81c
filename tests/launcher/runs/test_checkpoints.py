"""Which checkpoint a run can continue."""

from dataclasses import replace
from pathlib import Path

from launcher.runs.changes import what_changes
from launcher.runs.checkpoints import Checkpoint, Identity, why_not_resumed

MINE = Identity(
    model="m", resolution=64, zero_stage=3, precision="bf16", optimizer="AdamW", world_size=1, seed=1,
    global_batch_size=4, pictures=8,
)  # fmt: skip


def test_a_checkpoint_that_does_not_say_where_its_states_were_had_them_in_memory():
    facts = MINE.facts()
    del facts["optimizer_on"]
    earlier = Checkpoint(Path("checkpoint-1"), 1, facts)
    assert why_not_resumed(earlier, MINE) is None
    assert "optimizer in GPU or host memory there, NVMe here" in why_not_resumed(
        earlier, replace(MINE, optimizer_on="NVMe")
    )


def test_groups_of_weight_decay_must_agree_and_earlier_checkpoints_had_one():
    facts = MINE.facts()
    del facts["weight_decay_exclude"]
    earlier, grouped = (
        Checkpoint(Path("checkpoint-1"), 1, facts),
        replace(MINE, weight_decay_exclude="norms_and_biases"),
    )
    assert why_not_resumed(earlier, MINE) is None
    assert "weight decay for all but none there, norms_and_biases here" in why_not_resumed(earlier, grouped)


def test_another_objective_may_go_on_and_is_told():
    facts = MINE.facts()
    assert what_changes(Checkpoint(Path("checkpoint-1"), 1, facts), MINE) == []
    changed = replace(MINE, prediction_type="v_prediction", rescale_betas_zero_snr=True)
    told = what_changes(Checkpoint(Path("checkpoint-1"), 1, facts), changed)
    assert told == [
        "checkpoint-1 was made with prediction type auto, now v_prediction: what it learnt so far it unlearns",
        "checkpoint-1 was made with zero terminal SNR False, now True: it goes on with another noise schedule",
    ]
    for key in ("prediction_type", "rescale_betas_zero_snr"):
        del facts[key]
    assert what_changes(Checkpoint(Path("checkpoint-1"), 1, facts), changed) == []


def test_a_lora_continues_its_own_kind_only():
    lora = replace(MINE, model_type="lora", lora_rank=16, lora_alpha=16.0, lora_target_modules="to_k,to_q")
    held = Checkpoint(Path("checkpoint-1"), 1, lora.facts())
    assert why_not_resumed(held, lora) is None
    assert "model type lora there, full here. Use" in why_not_resumed(held, MINE)
    for change, said in (
        ({"lora_rank": 8}, "LoRA rank 16 there, 8 here"),
        ({"lora_alpha": 1.0}, "LoRA alpha 16.0 there, 1.0 here"),
        ({"lora_target_modules": "to_q"}, "LoRA of to_k,to_q there, to_q here"),
    ):
        assert said in why_not_resumed(held, replace(lora, **change))


def test_a_checkpoint_that_does_not_say_what_was_trained_is_of_the_whole_unet():
    facts = {name: value for name, value in MINE.facts().items() if name != "model_type" and "lora" not in name}
    earlier = Checkpoint(Path("checkpoint-1"), 1, facts)
    assert why_not_resumed(earlier, MINE) is None
    assert "model type full there, lora here" in why_not_resumed(earlier, replace(MINE, model_type="lora"))


def test_other_buckets_and_another_order_are_told_where_the_checkpoint_says_its_own():
    made = replace(MINE, buckets={"64x64": 8}, data_order="a")

    def told(**facts):
        return what_changes(Checkpoint(Path("checkpoint-1"), 1, made.facts()), replace(made, **facts))

    assert told() == []
    assert told(buckets={"32x32": 8}) == [
        "checkpoint-1 was made with other buckets (64x64: 8 pictures then, 0 now; 32x32: 0 pictures then, 8 now): "
        "pictures are cropped to other sizes from here on"
    ]
    (one,) = told(buckets={"64x64": 5, "96x32": 3}, data_order="b")
    assert one.endswith(
        "(64x64: 8 pictures then, 5 now; 96x32: 0 pictures then, 3 now): pictures are cropped to other sizes and the "
        "data order changes from here on"
    )
    (one,) = told(data_order="b")
    assert "other repeats or probabilities of their sources: the data order changes" in one
    (one,) = told(pictures=9, buckets={"64x64": 9}, data_order="b")
    assert "number of pictures 8, now 9: the data order changes" in one
    (one,) = told(buckets={f"{side}x{side}": 1 for side in range(8)})
    assert "and 3 more)" in one
    earlier = Checkpoint(Path("checkpoint-1"), 1, MINE.facts())
    assert what_changes(earlier, replace(made, data_order="b")) == []
