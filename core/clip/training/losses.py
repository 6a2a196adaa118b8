"""The losses of CLIP-CITE (arXiv 2407.04003, eq. 2 to 6), as pure functions of features.

`losses` names the losses of a training. A new loss is an entry there, and its weight in `AdaptConfig`, as
`scl_weight` for `scl`. Progress, API and page carry the losses by name.

Features are L2-normalised fp32 tensors of shape [B, D] for a batch of B images. `logit_scale` is 1/τ of
the pre-trained model, already exponentiated (100 for OpenAI's CLIP). Every loss is a mean over the batch.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from core.clip.config import AdaptConfig


class Features(NamedTuple):
    """Features of a batch from one model. `texts` has the features of each image's class prompt."""

    images: Tensor
    texts: Tensor


def visual_text_alignment(
    image_features: Tensor, classifier: Tensor, labels: Tensor, logit_scale: float
) -> Tensor:
    """Return L_DVA, eq. 2 and 3: cross-entropy of each image against *all* C classes.

    Args:
        image_features: [B, D].
        classifier: W [C, D], a parameter initialised with the text embeddings of the classes. W is
            normalised here, at every use. The text tower gets no gradient from this loss.
        labels: [B], class indices.
    """
    logits = logit_scale * image_features @ F.normalize(classifier, dim=-1).T  # [B, C]
    return F.cross_entropy(logits, labels)


def supervised_contrastive(
    image_features: Tensor, text_features: Tensor, labels: Tensor, logit_scale: float
) -> Tensor:
    """Return L_SCL, eq. 4: InfoNCE within the batch, image to text and text to image.

    Pairs (i, j), i != j, of the same class are neither positives nor negatives: they are left out of the
    denominator. With B different classes the loss equals open_clip's `ClipLoss`.

    Args:
        image_features: [B, D].
        text_features: [B, D], features of the prompt of each image's class.
        labels: [B].
    """
    logits = logit_scale * image_features @ text_features.T  # [B, B]
    same_class = labels[:, None] == labels[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    logits = logits.masked_fill(same_class & ~itself, float("-inf"))
    positives = torch.arange(len(labels), device=labels.device)
    return (F.cross_entropy(logits, positives) + F.cross_entropy(logits.T, positives)) / 2


def similarity_distillation(
    image_features: Tensor,
    text_features: Tensor,
    teacher_image_features: Tensor,
    teacher_text_features: Tensor,
    logit_scale: float,
) -> Tensor:
    """Return L_VLD, eq. 5: KL(p || p̂) on the same augmented images.

    p is the student's softmax over the B prompts of the batch, p̂ that of the frozen pre-trained model.
    All features are [B, D]; duplicate prompts stay. p̂ is detached; the gradient flows through p into both
    towers.
    """
    log_p = F.log_softmax(logit_scale * image_features @ text_features.T, dim=-1)  # [B, B]
    teacher_logits = logit_scale * teacher_image_features @ teacher_text_features.T
    log_p_hat = F.log_softmax(teacher_logits.detach(), dim=-1)
    # Direction: `kl_div(input, target)` is KL(target || input).
    return F.kl_div(log_p_hat, log_p, log_target=True, reduction="batchmean")


def losses(
    student: Features,
    teacher: Features,
    classifier: Tensor,
    labels: Tensor,
    logit_scale: float,
    contrastive: Callable[[Tensor, Tensor, Tensor, float], Tensor] = supervised_contrastive,
) -> dict[str, Tensor]:
    """Return the losses of a batch by name, without their weights.

    Args:
        contrastive: L_SCL. An ablation may replace it.
    """
    return {
        "dva": visual_text_alignment(student.images, classifier, labels, logit_scale),
        "scl": contrastive(student.images, student.texts, labels, logit_scale),
        "vld": similarity_distillation(*student, *teacher, logit_scale),
    }


def total_loss(losses: Mapping[str, Tensor], config: AdaptConfig) -> Tensor:
    """Return L, eq. 6: the weighted sum, with λ = `scl_weight` and η = `vld_weight`."""
    weights = {"dva_weight": 1.0, **vars(config)}
    return torch.stack([weights[f"{name}_weight"] * loss for name, loss in losses.items()]).sum()
