"""CLIP-CITE as a plain loop with open_clip and torchvision, as a careful researcher would write it.

Baseline of benchmarks.training: the same method, batches, epochs and learning rates as the product, and so
the same result, in the style of the libraries' examples. Image files are opened again in each epoch. Each
step tokenises and encodes one text per image, and the teacher encodes each image and text again. All
computation is eager fp32.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms

from core.clip.config import AdaptConfig


class ImageSplit(Dataset[tuple[Tensor, int]]):
    def __init__(
        self, files: Sequence[Path], labels: Sequence[int], transform: Callable[[Image.Image], Tensor]
    ) -> None:
        self.files, self.labels, self.transform = files, labels, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.files[index]) as image:
            return self.transform(image.convert("RGB")), self.labels[index]


class EqualBatches(Sampler[list[int]]):
    """Batches of a new order per epoch, whose sizes differ by at most one.

    This is the product's rule for the last partial batch, so that both loops take the same steps.
    """

    def __init__(self, images: int, batch_size: int) -> None:
        self.images, self.batches = images, math.ceil(images / batch_size)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        for batch in torch.randperm(self.images).tensor_split(self.batches):
            yield batch.tolist()


def train(
    model: Any,
    tokenizer: Callable[[list[str]], Tensor],
    files: Sequence[Path],
    labels: Sequence[int],
    class_names: Sequence[str],
    config: AdaptConfig,
    *,
    workers: int,
    on_step: Callable[[float, float, float, float], None],
) -> dict[str, Tensor]:
    """Fine-tune an open_clip model, in place, in fp32.

    Args:
        model, tokenizer: from open_clip; the model is on the training device.
        config: its first template, epochs, batch size, learning rates, loss weights and crops are used.
        workers: number of DataLoader processes.
        on_step: called with the losses L, L_DVA, L_SCL and L_VLD of each step.

    Returns:
        The trained parameters by name, without `logit_scale`.
    """
    torch.manual_seed(config.seed)
    device = next(model.parameters()).device
    preprocess = open_clip.get_model_preprocess_cfg(model)
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(
                preprocess["size"],
                scale=(config.crop_scale, 1.0),
                interpolation=transforms.InterpolationMode.BICUBIC,
            ),
            transforms.ToTensor(),
            transforms.Normalize(preprocess["mean"], preprocess["std"]),
        ]
    )
    loader = DataLoader(
        ImageSplit(files, labels, transform),
        batch_sampler=EqualBatches(len(files), config.batch_size),
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    prompts = [config.templates[0].replace("{}", name) for name in class_names]

    model.eval()  # no dropout, and BatchNorm keeps its statistics
    teacher = copy.deepcopy(model).requires_grad_(False)
    theta = {name: p for name, p in model.named_parameters() if name not in ("logit_scale", "logit_bias")}
    text_rate = config.learning_rate if config.text_learning_rate is None else config.text_learning_rate
    image_tower = [p.requires_grad_(True) for name, p in theta.items() if name.startswith("visual.")]
    text_tower = [p.requires_grad_(text_rate > 0) for n, p in theta.items() if not n.startswith("visual.")]
    with torch.no_grad():
        logit_scale = model.logit_scale.exp()
        classifier = nn.Parameter(teacher.encode_text(tokenizer(prompts).to(device), normalize=True))

    optimizer = torch.optim.AdamW(
        [
            {"params": image_tower, "lr": config.learning_rate, "weight_decay": config.weight_decay},
            {"params": text_tower, "lr": text_rate, "weight_decay": config.weight_decay},
            {"params": [classifier], "lr": config.classifier_learning_rate, "weight_decay": 0.0},
        ]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs * len(loader))

    for _ in range(config.epochs):
        for images, y in loader:
            images, y = images.to(device), y.to(device)
            tokens = tokenizer([prompts[label] for label in y.tolist()]).to(device)

            image_features = model.encode_image(images, normalize=True)
            text_features = model.encode_text(tokens, normalize=True)
            with torch.no_grad():
                teacher_image_features = teacher.encode_image(images, normalize=True)
                teacher_text_features = teacher.encode_text(tokens, normalize=True)

            # L_DVA, eq. 2 and 3
            dva = F.cross_entropy(logit_scale * image_features @ F.normalize(classifier, dim=-1).T, y)
            # L_SCL, eq. 4: other images of the same class leave the denominator
            logits = logit_scale * image_features @ text_features.T
            same_class = (y[:, None] == y[None, :]).fill_diagonal_(False)
            contrast = logits.masked_fill(same_class, float("-inf"))
            positives = torch.arange(len(y), device=device)
            scl = (F.cross_entropy(contrast, positives) + F.cross_entropy(contrast.T, positives)) / 2
            # L_VLD, eq. 5: KL(p || p̂)
            log_p = logits.log_softmax(dim=-1)
            log_p_hat = (logit_scale * teacher_image_features @ teacher_text_features.T).log_softmax(dim=-1)
            vld = (log_p.exp() * (log_p - log_p_hat)).sum(dim=-1).mean()
            loss = dva + config.scl_weight * scl + config.vld_weight * vld

            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            on_step(loss.item(), dva.item(), scl.item(), vld.item())

    return {name: parameter.detach() for name, parameter in theta.items()}
