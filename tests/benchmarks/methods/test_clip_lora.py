import torch

from benchmarks.methods.clip_lora import ClipLora, LowRank, add_lora, clip_lora, merge_lora
from benchmarks.methods.common import task as given
from benchmarks.methods.common.training import trainable
from core.clip.models.features import encode_images

NAMES = ["green thing", "grey square"]


def test_only_attention_moves_or_without_it_1x1_convolutions(task: given.Task) -> None:
    model = clip_lora(task, ClipLora(steps_per_shot=2, batch_size=8))["CLIP-LoRA"].model  # type: ignore[attr-defined]
    theta_0 = task.backbone.model.state_dict()
    theta_1 = model.state_dict()
    assert theta_0.keys() == theta_1.keys()  # Merged, the result is a plain model.
    moved = {name for name in theta_0 if not torch.equal(theta_0[name], theta_1[name])}
    text = {name for name in moved if not name.startswith("visual.")}
    image = moved - text
    if hasattr(task.backbone.model, "text"):
        assert len(text) == 6  # 2 layers.
        assert all(name.split(".")[-2] in {"query", "key", "value"} for name in text)
        assert "visual.head.proj.weight" in image
        shapes = {tuple(theta_0[name].shape[2:]) for name in image}
        assert shapes == {(), (1, 1)}
    else:
        assert len(text) == len(image) == 2
        assert all(name.endswith("attn.in_proj_weight") for name in moved)


def test_the_addition_is_scaled_by_the_root_of_the_rank() -> None:
    """rsLoRA, as in the authors' code: α/√rank · B A."""
    weight = torch.arange(6.0).reshape(2, 3)
    addition = LowRank(weight, 1, ClipLora(rank=4, alpha=6)).eval()
    with torch.no_grad():
        addition.a.copy_(torch.arange(12.0).reshape(1, 4, 3))
        addition.b.copy_(torch.tensor([[[1.0, 0, 0, 0], [0, 1, 0, -1]]]))
        found = addition(weight) - weight
    expected = 6 / 2 * torch.tensor([[0.0, 1, 2], [3 - 9, 4 - 10, 5 - 11]])
    torch.testing.assert_close(found, expected)


def test_merging_keeps_the_function(task: given.Task, shown: given.Tests) -> None:
    model = trainable(task.backbone)
    additions = add_lora(model, ClipLora()).eval()
    with torch.no_grad():
        for addition in additions:
            addition.b.normal_(generator=torch.Generator().manual_seed(0))
        before = encode_images(model, shown._pixels)
        merge_lora(model)
        after = encode_images(model, shown._pixels)
    assert not torch.allclose(before, shown.stock_features, atol=1e-3)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)
