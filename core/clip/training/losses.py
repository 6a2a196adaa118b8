"""The three losses of CLIP-CITE (arXiv 2407.04003, eq. 2 to 6), as pure functions of features.

Features are L2-normalised fp32 tensors of shape [B, D] for a batch of B images. `logit_scale` is 1/τ of
the pre-trained model, already exponentiated (100 for OpenAI's CLIP). Every loss is a mean over the batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


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


def total_loss(dva: Tensor, scl: Tensor, vld: Tensor, scl_weight: float, vld_weight: float) -> Tensor:
    """Return L, eq. 6, with λ = `scl_weight` and η = `vld_weight`."""
    return dva + scl_weight * scl + vld_weight * vld
