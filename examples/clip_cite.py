"""CLIP-CITE in one file: adapt CLIP to a few images per class, with open_clip and torchvision alone.

    python examples/clip_cite.py IMAGES --model ViT-B-16 --pretrained openai

IMAGES holds train/CLASS/ and test/CLASS/. The first half of the sorted classes is trained. Printed are the
accuracy on these classes (B), on the other classes (N), and the harmonic mean (HM), at α = 0, 0.5 and 1.

M. Liu, B. Li, Y. Yu, "Fully Fine-tuned CLIP Models are Efficient Few-Shot Learners", arXiv 2407.04003. The
defaults are the product's recipe for CLIP ViT-B/16. The loop is the plain reference of the product's training
loop: eager fp32, one text per image, and files that are opened again in each epoch.
"""

import argparse
import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms

ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
NOT_TRAINED = {"logit_scale", "logit_bias"}


@dataclass(frozen=True)
class Recipe:
    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 5e-6
    text_learning_rate: float | None = None  # None: that of the image tower
    classifier_learning_rate: float = 5e-5  # of W
    weight_decay: float = 0.01  # of both towers, not of W
    scl_weight: float = 0.7  # λ of eq. 6
    vld_weight: float = 0.1  # η of eq. 6
    crop_scale: float = 0.5
    template: str = "a photo of a {}."
    seed: int = 0


class ImageFiles(Dataset[tuple[Tensor, int]]):
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
    """Batches of a new order per epoch, whose sizes differ by at most one."""

    def __init__(self, images: int, batch_size: int) -> None:
        self.images, self.batches = images, math.ceil(images / batch_size)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        for batch in torch.randperm(self.images).tensor_split(self.batches):
            yield batch.tolist()


class Batches(Sized, Iterable[tuple[Tensor, Tensor]], Protocol):
    """One epoch per iteration: pixels [B, 3, S, S] and labels [B] of `len()` batches."""


def training_batches(
    model: Any, files: Sequence[Path], labels: Sequence[int], recipe: Recipe, workers: int = 0
) -> Batches:
    """Return random resized crops of the images, and nothing else: no flip, no colours."""
    how = open_clip.get_model_preprocess_cfg(model)
    bicubic = transforms.InterpolationMode.BICUBIC
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(how["size"], scale=(recipe.crop_scale, 1.0), interpolation=bicubic),
            transforms.ToTensor(),
            transforms.Normalize(how["mean"], how["std"]),
        ]
    )
    return DataLoader(
        ImageFiles(files, labels, transform),
        batch_sampler=EqualBatches(len(files), recipe.batch_size),
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def train(
    model: Any,
    tokenizer: Callable[[list[str]], Tensor],
    batches: Batches,
    class_names: Sequence[str],
    recipe: Recipe,
    on_step: Callable[[float, float, float, float], None] = lambda *losses: None,
) -> dict[str, Tensor]:
    """Fine-tune both towers of an open_clip model, in place. Return θ_1 by name.

    `on_step` is called with the losses L, L_DVA, L_SCL and L_VLD of each step.
    """
    device = next(model.parameters()).device
    prompts = [recipe.template.replace("{}", name) for name in class_names]
    model.eval()  # no dropout, and BatchNorm keeps its statistics
    teacher = copy.deepcopy(model).requires_grad_(False)
    theta = {name: p for name, p in model.named_parameters() if name not in NOT_TRAINED}
    text_rate = recipe.learning_rate if recipe.text_learning_rate is None else recipe.text_learning_rate
    image_tower = [p.requires_grad_(True) for name, p in theta.items() if name.startswith("visual.")]
    text_tower = [p.requires_grad_(text_rate > 0) for n, p in theta.items() if not n.startswith("visual.")]
    with torch.no_grad():
        logit_scale = model.logit_scale.exp()  # frozen
        classifier = nn.Parameter(teacher.encode_text(tokenizer(prompts).to(device), normalize=True))  # W

    optimizer = torch.optim.AdamW(
        [
            {"params": image_tower, "lr": recipe.learning_rate, "weight_decay": recipe.weight_decay},
            {"params": text_tower, "lr": text_rate, "weight_decay": recipe.weight_decay},
            {"params": [classifier], "lr": recipe.classifier_learning_rate, "weight_decay": 0.0},
        ]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs * len(batches))
    for _ in range(recipe.epochs):
        for images, y in batches:
            images, y = images.to(device), y.to(device)
            tokens = tokenizer([prompts[label] for label in y.tolist()]).to(device)
            image_features = model.encode_image(images, normalize=True)  # [B, D]
            text_features = model.encode_text(tokens, normalize=True)  # [B, D]
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
            loss = dva + recipe.scl_weight * scl + recipe.vld_weight * vld  # eq. 6

            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            on_step(loss.item(), dva.item(), scl.item(), vld.item())
    return {name: parameter.detach() for name, parameter in theta.items()}


def ensemble(theta_0: Mapping[str, Tensor], theta_1: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Return θ(α) = α θ_1 + (1 − α) θ_0, eq. 7."""
    return {name: torch.lerp(theta_0[name], theta_1[name], alpha) for name in theta_1}


@torch.no_grad()
def accuracy(
    model: Any,
    tokenizer: Callable[[list[str]], Tensor],
    test: DataLoader[tuple[Tensor, int]],
    class_names: Sequence[str],
    recipe: Recipe,
) -> float:
    """Return the accuracy with these classes as candidates; the labels are their indices."""
    device = next(model.parameters()).device
    model.eval()
    prompts = [recipe.template.replace("{}", name) for name in class_names]
    classifier = model.encode_text(tokenizer(prompts).to(device), normalize=True)  # [C, D]
    correct = [
        (model.encode_image(images.to(device), normalize=True) @ classifier.T).argmax(dim=-1).cpu() == y
        for images, y in test
    ]
    return torch.cat(correct).float().mean().item()


def images_of(folder: Path, class_names: Sequence[str]) -> tuple[list[Path], list[int]]:
    """Return the image files of these classes, and their labels."""
    found = [
        (path, label)
        for label, name in enumerate(class_names)
        for path in sorted((folder / name).glob("*"))
        if path.suffix.lower() in ENDINGS
    ]
    return [path for path, _ in found], [label for _, label in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images", type=Path, help="folder with train/CLASS/ and test/CLASS/")
    parser.add_argument("--model", default="ViT-B-16", help="open_clip's name, or local-dir:FOLDER")
    parser.add_argument("--pretrained", help="weights, for example openai; none for local-dir")
    parser.add_argument("--image-size", type=int, help="pixels (default: the model's)")
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, default in vars(Recipe()).items():
        kind = float if default is None else type(default)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default)
    options = parser.parse_args()
    recipe = Recipe(**{name: getattr(options, name) for name in vars(Recipe())})
    torch.manual_seed(recipe.seed)

    names = sorted(path.name for path in (options.images / "test").iterdir() if path.is_dir())
    half = (len(names) + 1) // 2
    base, new = names[:half], names[half:]
    files, labels = images_of(options.images / "train", base)
    order = torch.randperm(len(files)).tolist()
    shots = [i for c in range(half) for i in [i for i in order if labels[i] == c][: options.shots]]
    if not shots or not new:
        raise SystemExit(f"{options.images} needs train/CLASS/ and test/CLASS/ with images of two classes.")

    model, _, preprocess = open_clip.create_model_and_transforms(
        options.model, options.pretrained, force_image_size=options.image_size, device=options.device
    )
    tokenizer = open_clip.get_tokenizer(options.model)
    theta_0 = {n: p.detach().clone() for n, p in model.named_parameters() if n not in NOT_TRAINED}
    batches = training_batches(model, [files[i] for i in shots], [labels[i] for i in shots], recipe)
    theta_1 = {n: p.clone() for n, p in train(model, tokenizer, batches, base, recipe).items()}
    tests = [
        DataLoader(ImageFiles(*images_of(options.images / "test", k), preprocess), 64) for k in (base, new)
    ]
    for alpha in (0.0, 0.5, 1.0):
        model.load_state_dict(ensemble(theta_0, theta_1, alpha), strict=False)
        b, n = (
            accuracy(model, tokenizer, test, kind, recipe)
            for test, kind in zip(tests, (base, new), strict=True)
        )
        print(f"α = {alpha}: B {b:.3f}, N {n:.3f}, HM {2 * b * n / max(b + n, 1e-9):.3f}")


if __name__ == "__main__":
    main()
