"""The training loop of CLIP-CITE, top to bottom."""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from core.clip.config import AdaptConfig
from core.clip.data.loader import crop_batches, epoch_batches
from core.clip.data.transforms import to_pixels
from core.clip.errors import Cancelled, InvalidConfig, TrainingDiverged
from core.clip.models.backbone import Backbone, tower_parameters
from core.clip.models.features import (
    PROMPT_BATCH_SIZE,
    build_zero_shot_classifier,
    encode_images,
    encode_tokens,
)
from core.clip.training.checkpoint import Checkpoints, TrainingState, identity_of
from core.clip.training.conv_bn import fuse_conv_bn
from core.clip.training.losses import (
    similarity_distillation,
    supervised_contrastive,
    total_loss,
    visual_text_alignment,
)
from core.clip.training.microbatch import MicroBatcher
from core.clip.training.progress import Reporter, StepProgress


@dataclass(frozen=True)
class FineTuned:
    theta_1: dict[str, Tensor]
    """On the backbone's device: fp32 tensors by name, `logit_scale` and buffers left out."""
    classifier: Tensor
    """W [C, D], normalised. Only the training needs it: inference asks the text tower."""


def fine_tune(
    backbone: Backbone,
    images: Sequence[Tensor],
    labels: Sequence[int],
    prompts: Sequence[Sequence[str]],
    config: AdaptConfig,
    reporter: Reporter,
    *,
    distillation: Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor] = similarity_distillation,
    objective: Callable[[Tensor, Tensor, Tensor, float, float], Tensor] = total_loss,
    frozen: Callable[[str], bool] = lambda name: False,
    after_epoch: Callable[[int, Mapping[str, Tensor]], None] = lambda epoch, theta: None,
    checkpoints: Checkpoints | None = None,
) -> FineTuned:
    """Train both towers of a copy of the backbone on labelled images.

    Args:
        images: N images, uint8 [3, H, W] of any size.
        labels: for each the index of its class.
        prompts: for each class its sentences. A step draws one sentence a class at random, so that
            many sentences cost no more than one; the teacher's features of all are computed once.
        distillation, objective, frozen: for ablations: another L_VLD or L, and which parameters, by
            name, are not trained.
        after_epoch: called with the epoch, from 1, and θ as it is then.
        checkpoints: where to go on from, if there is something, and where to write to.

    Raises:
        Cancelled: the reporter asked for it.
        TrainingDiverged: the loss is no longer finite.
        OutOfMemory: not even one image at a time fits.
        InvalidConfig: fp16 on a CPU.
    """
    device = backbone.device
    dtype = mixed_precision(config.precision, device)
    generator = torch.Generator().manual_seed(config.seed)  # order and sentences
    crop_generator = torch.Generator().manual_seed(config.seed + 1)

    # Everything stays in eval mode: dropout would make L_VLD(θ_0) > 0, and BatchNorm must keep the
    # running statistics, which batches this small would ruin and the ensemble could not average.
    teacher = copy.deepcopy(backbone.model)
    fuse_conv_bn(teacher, backbone.image_size)
    student = copy.deepcopy(teacher)
    # Nothing is differentiated with respect to the teacher. But torch.matmul copies a weight that needs no
    # gradient for each image of a batch, where the layout is that of attention: in bf16 a ViT's forward
    # then takes a multiple of the time, and rounds otherwise than the student's.
    teacher.requires_grad_()
    theta = tower_parameters(student)
    text_learning_rate = (
        config.learning_rate if config.text_learning_rate is None else config.text_learning_rate
    )
    towers: dict[str, list[nn.Parameter]] = {"image": [], "text": []}
    for name, parameter in theta.items():
        tower = "image" if name.startswith("visual.") else "text"  # so open_clip names them
        towers[tower].append(parameter)
        parameter.requires_grad_(not frozen(name) and not (tower == "text" and text_learning_rate == 0))

    classifier = nn.Parameter(build_zero_shot_classifier(teacher, backbone.tokenize, prompts))  # W [C, D]
    tokens, first_sentence, sentence_count = _tokens(backbone, prompts)
    with torch.no_grad(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        # [S, D], in the student's precision: else L_VLD(θ_0) would measure the rounding.
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
    state = TrainingState({**theta, "W": classifier}, optimizer, scaler, generators)
    done = 0  # steps of an earlier attempt
    if checkpoints is not None:
        identity = identity_of(backbone, images, labels, prompts, config)
        done = checkpoints.resume(state, identity, reporter) * batches_per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(done + step, steps))

    def losses_and_gradients(
        x: Tensor, y: Tensor, sentences: Tensor, text_of: Tensor, micro_batch_size: int | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """L, L_DVA, L_SCL and L_VLD of a batch. The gradients of L are left in the parameters."""
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            image_features = _encode(student, x, micro_batch_size)  # [B, D], fp32 as all that follows
            text_features = encode_tokens(student, tokens[sentences])[text_of]  # [B, D]
            with torch.no_grad():
                teacher_image_features = _encode(teacher, x, micro_batch_size)
        teacher_text_features = teacher_texts[sentences][text_of]

        scale = backbone.logit_scale
        dva = visual_text_alignment(image_features, classifier, y, scale)
        scl = supervised_contrastive(image_features, text_features, y, scale)
        vld = distillation(
            image_features, text_features, teacher_image_features, teacher_text_features, scale
        )
        loss = objective(dva, scl, vld, config.scl_weight, config.vld_weight)
        scaler.scale(loss).backward()
        return loss.detach(), dva.detach(), scl.detach(), vld.detach()

    part_size = MicroBatcher(config.micro_batch_size, reporter)
    all_labels = torch.tensor(labels)
    started = time.monotonic()
    batches = crop_batches(images, plan[done:], backbone.image_size, config.crop_scale, crop_generator)
    for step, (indices, crops) in enumerate(batches, start=done + 1):
        if reporter.cancelled():
            raise Cancelled("The training was cancelled.")
        y = all_labels[indices]
        classes, text_of = y.unique(return_inverse=True)  # each class text of the batch once
        drawn = torch.rand(len(classes), generator=generator) * sentence_count[classes]
        sentences = (first_sentence[classes] + drawn.long()).to(device)
        x = to_pixels(crops.to(device), backbone.mean, backbone.std)
        y, text_of = y.to(device), text_of.to(device)

        compute = partial(losses_and_gradients, x, y, sentences, text_of)
        loss, dva, scl, vld = part_size.fit(compute, len(x))
        if not torch.isfinite(loss):
            raise TrainingDiverged(
                f"The loss became {loss.item()} at step {step} of {steps}. Use a lower learning_rate "
                f"(now {config.learning_rate:g}) or precision fp32."
            )

        scaler.step(optimizer)
        scaler.update()
        schedule.step()

        per_step = (time.monotonic() - started) / (step - done)
        reporter.step(
            StepProgress(
                epoch=(step - 1) // batches_per_epoch + 1,
                epochs=config.epochs,
                step=step,
                steps=steps,
                total=loss.item(),
                dva=dva.item(),
                scl=scl.item(),
                vld=vld.item(),
                images_per_second=len(x) / max(per_step, 1e-9),
            )
        )
        reporter.progressed(step / steps)

        if step % batches_per_epoch == 0:
            epoch = step // batches_per_epoch
            after_epoch(epoch, theta)
            if checkpoints is not None:
                checkpoints.after_epoch(epoch, state, reporter)

    theta_1 = {name: parameter.detach() for name, parameter in theta.items()}
    if not all(torch.isfinite(tensor).all() for tensor in theta_1.values()):
        raise TrainingDiverged(
            "The trained weights are not finite. Use a lower learning_rate or precision fp32."
        )
    return FineTuned(theta_1, F.normalize(classifier.detach(), dim=-1))


def cosine(step: int, steps: int) -> float:
    """Share of the peak learning rate at a step from 0 to `steps`: cosine annealing, no warm-up."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def mixed_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """The autocast type of a setting on a device; None is plain fp32. `auto` takes bf16 where the
    device computes it natively, fp16 on older GPUs, else fp32."""
    if precision == "fp16" and device.type == "cpu":
        raise InvalidConfig("precision", "fp16 needs a GPU. On a CPU use fp32, bf16 or auto.")
    if precision == "auto":
        if device.type == "cuda":
            precision = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        else:
            precision = "bf16" if _computes_bf16() else "fp32"
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _computes_bf16() -> bool:
    """Whether the CPU multiplies bf16 in hardware; elsewhere it is emulated, and slower than fp32."""
    capabilities: dict[str, bool] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # not in every torch that we accept
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def _tokens(backbone: Backbone, prompts: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor, Tensor]:
    """All sentences as token ids [S, L] on the device; per class its first row [C] and its count [C]."""
    counts = torch.tensor([len(of_class) for of_class in prompts])
    tokens = backbone.tokenize([sentence for of_class in prompts for sentence in of_class])
    return tokens.to(backbone.device), counts.cumsum(0) - counts, counts


def _encode(model: nn.Module, pixels: Tensor, micro_batch_size: int | None) -> Tensor:
    """Features of a batch, if asked for in parts: then only one part's activations are in memory at a
    time, computed again on the way back. The losses still see the whole batch, so its gradient is
    the same (GradCache, arXiv 2101.06983), which adding up gradients of smaller batches is not."""
    if micro_batch_size is None or micro_batch_size >= len(pixels):
        return encode_images(model, pixels)
    parts = [
        checkpoint(encode_images, model, part, use_reentrant=False) for part in pixels.split(micro_batch_size)
    ]
    return torch.cat(parts)
