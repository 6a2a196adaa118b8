"""The training loop of CLIP-CITE."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from core.clip.config import AdaptConfig
from core.clip.data.loader import Crop, crop_batches, epoch_batches
from core.clip.data.transforms import random_resized_crop, to_pixels
from core.clip.errors import Cancelled, TrainingDiverged
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters
from core.clip.models.device import mixed_precision
from core.clip.models.features import (
    PROMPT_BATCH_SIZE,
    build_zero_shot_classifier,
    encode_images,
    encode_tokens,
)
from core.clip.training.checkpoint import Checkpoints, TrainingState
from core.clip.training.conv_bn import fuse_conv_bn
from core.clip.training.losses import Features, losses, supervised_contrastive, total_loss
from core.clip.training.microbatch import MicroBatcher
from core.clip.training.progress import Reporter, StepProgress


def cosine(step: int, steps: int) -> float:
    """Return the fraction of the peak learning rate at `step`: cosine annealing without warm-up."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


@dataclass(frozen=True)
class Recipe:
    """Parts of the training that an ablation may replace. The defaults are the method."""

    contrastive: Callable[[Tensor, Tensor, Tensor, float], Tensor] = supervised_contrastive
    """L_SCL."""
    crop: Crop = random_resized_crop
    """Random crop of an image."""
    schedule: Callable[[int, int], float] = cosine
    """Fraction of the peak learning rates at (step, steps)."""


def fine_tune(
    backbone: Backbone,
    images: Sequence[Tensor],
    labels: Sequence[int],
    prompts: Sequence[Sequence[str]],
    config: AdaptConfig,
    reporter: Reporter,
    *,
    recipe: Recipe | None = None,
    checkpoints: Checkpoints | None = None,
) -> dict[str, Tensor]:
    """Train both towers of a copy of the backbone on labelled images.

    Args:
        images: N images, uint8 [3, H, W] of any size.
        labels: N class indices.
        prompts: prompts of each class. Each step draws one prompt per class at random, so many prompts cost
            no more than one. The teacher's features of all prompts are computed once.
        recipe: replaced parts. None: the method itself.
        checkpoints: checkpoints to resume from and to write. None disables checkpoints.

    Returns:
        θ_1: fp32 tensors by name on the backbone's device, without `logit_scale` and buffers. The classifier
        W is not returned, because inference uses the text tower instead.

    Raises:
        Cancelled: the reporter requested a stop.
        TrainingDiverged: the loss is no longer finite.
        OutOfMemory: the memory is too small even for one image at a time.
        InvalidConfig: fp16 was requested on a CPU.
    """
    recipe = recipe or Recipe()
    device = backbone.device
    dtype = mixed_precision(config.precision, device)
    generator = torch.Generator().manual_seed(config.seed)  # order of images, choice of prompts
    crop_generator = torch.Generator().manual_seed(config.seed + 1)

    # Both networks stay in eval mode. Dropout would make L_VLD(θ_0) > 0. BatchNorm keeps its running
    # statistics: such small batches would ruin them, and the ensemble could not average them.
    teacher = with_parameters(backbone, tower_parameters(backbone.model))  # shares the weights
    fuse_conv_bn(teacher, backbone.image_size)
    student = copy.deepcopy(teacher)
    # The teacher needs no gradient. But in the layout of attention, torch.matmul copies a weight without
    # requires_grad once per image. In bf16 a ViT's forward pass then takes several times as long, and
    # rounds differently from the student's.
    teacher.requires_grad_()
    theta = tower_parameters(student)
    text_learning_rate = (
        config.learning_rate if config.text_learning_rate is None else config.text_learning_rate
    )
    towers: dict[str, list[nn.Parameter]] = {"image": [], "text": []}
    for name, parameter in theta.items():
        tower = "image" if name.startswith("visual.") else "text"  # open_clip's naming
        towers[tower].append(parameter)
        parameter.requires_grad_(tower == "image" or text_learning_rate > 0)

    classifier = nn.Parameter(build_zero_shot_classifier(teacher, backbone.tokenize, prompts))  # W [C, D]
    # Token ids [S, L] of all prompts, with first row [C] and count [C] per class.
    tokens = backbone.tokenize([sentence for sentences in prompts for sentence in sentences]).to(device)
    sentence_count = torch.tensor([len(sentences) for sentences in prompts])
    first_sentence = sentence_count.cumsum(0) - sentence_count
    with torch.no_grad(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        # [S, D], in the student's precision: otherwise L_VLD(θ_0) would measure rounding errors.
        teacher_texts = torch.cat(
            [encode_tokens(teacher, chunk) for chunk in tokens.split(PROMPT_BATCH_SIZE)]
        )

    optimizer = torch.optim.AdamW(
        [
            {"params": towers["image"], "lr": config.learning_rate, "weight_decay": config.weight_decay},
            {"params": towers["text"], "lr": text_learning_rate, "weight_decay": config.weight_decay},
            {"params": [classifier], "lr": config.classifier_learning_rate, "weight_decay": 0.0},
        ],
        fused=True,
    )
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
    batches_per_epoch = math.ceil(len(images) / config.batch_size)
    steps = config.epochs * batches_per_epoch
    plan = epoch_batches(len(images), batches_per_epoch, config.epochs, generator)

    generators = {"sentences": generator, "crops": crop_generator}
    state = TrainingState({**theta, "W": classifier}, optimizer, scaler, generators, config.precision)
    earlier = 0  # steps of earlier attempts
    if checkpoints is not None:
        earlier = checkpoints.resume(state, backbone.sha256, reporter) * batches_per_epoch
    annealing = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: recipe.schedule(earlier + step, steps)
    )

    def check() -> None:
        if reporter.cancelled():
            raise Cancelled("The training was cancelled.")

    def losses_and_gradients(
        x: Tensor, y: Tensor, sentences: Tensor, text_of: Tensor, micro_batch_size: int | None
    ) -> dict[str, Tensor]:
        """Return the losses of a batch and their `total`. Accumulate its gradients in the parameters."""
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            # [B, D], fp32 from here on. The texts first: the length of the longest prompt synchronises a GPU.
            text_features = encode_tokens(student, tokens[sentences])[text_of]
            image_features = _encode(student, x, micro_batch_size, check)
            with torch.no_grad():
                teacher_image_features = _encode(teacher, x, micro_batch_size, check)
        parts = losses(
            Features(image_features, text_features),
            Features(teacher_image_features, teacher_texts[sentences][text_of]),
            classifier,
            y,
            backbone.logit_scale,
            recipe.contrastive,
        )
        total = total_loss(parts, config)
        scaler.scale(total).backward()
        return {name: loss.detach() for name, loss in {"total": total, **parts}.items()}

    micro_batcher = MicroBatcher(config.micro_batch_size, reporter)
    all_labels = torch.tensor(labels)
    started = time.monotonic()
    batches = crop_batches(
        images, plan[earlier:], backbone.image_size, config.crop_scale, crop_generator, recipe.crop
    )
    for step, (indices, crops) in enumerate(batches, start=earlier + 1):
        check()
        y = all_labels[indices]
        classes, text_of = y.unique(return_inverse=True)  # one prompt per class of the batch
        drawn = torch.rand(len(classes), generator=generator) * sentence_count[classes]
        sentences = (first_sentence[classes] + drawn.long()).to(device)
        x = to_pixels(crops.to(device), backbone.mean, backbone.std)
        y, text_of = y.to(device), text_of.to(device)

        compute = partial(losses_and_gradients, x, y, sentences, text_of)
        computed = micro_batcher.fit(compute, len(x))
        # The GPU is synchronised once for all losses.
        loss = dict(zip(computed, torch.stack(list(computed.values())).tolist(), strict=True))
        if not math.isfinite(loss["total"]):
            raise TrainingDiverged(
                f"The loss became {loss['total']} at step {step} of {steps}. Use a lower learning_rate "
                f"(now {config.learning_rate:g}) or precision fp32."
            )

        scaler.step(optimizer)
        scaler.update()
        annealing.step()

        per_step = (time.monotonic() - started) / (step - earlier)
        reporter.step(
            StepProgress(
                epoch=(step - 1) // batches_per_epoch + 1,
                epochs=config.epochs,
                step=step,
                steps=steps,
                loss=loss,
                images_per_second=len(x) / max(per_step, 1e-9),
            )
        )

        if step % batches_per_epoch == 0:
            epoch = step // batches_per_epoch
            if checkpoints is not None:
                checkpoints.after_epoch(epoch, state, reporter)

    theta_1 = {name: parameter.detach() for name, parameter in theta.items()}
    if not all(torch.isfinite(tensor).all() for tensor in theta_1.values()):
        raise TrainingDiverged(
            "The trained weights are not finite. Use a lower learning_rate or precision fp32."
        )
    return theta_1


def _encode(
    model: nn.Module, pixels: Tensor, micro_batch_size: int | None, check: Callable[[], None]
) -> Tensor:
    """Return the features of a batch, computed in micro-batches if `micro_batch_size` is smaller.

    Only one micro-batch's activations are in memory at a time; the backward pass computes them again.
    The losses still see the whole batch, so the gradient stays the same (GradCache, arXiv 2101.06983).
    Accumulating gradients over smaller batches would change it.

    `check` is called before each micro-batch, even in the backward pass, because a step of a large network
    may take minutes on a CPU.
    """

    def encode_part(part: Tensor) -> Tensor:
        check()
        return encode_images(model, part)

    if micro_batch_size is None or micro_batch_size >= len(pixels):
        return encode_images(model, pixels)
    parts = [checkpoint(encode_part, part, use_reentrant=False) for part in pixels.split(micro_batch_size)]
    return torch.cat(parts)
