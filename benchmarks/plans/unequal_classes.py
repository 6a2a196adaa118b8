"""Remedies for unequal classes, scored on stored features (unequal_classes.md).

    python -m benchmarks.plans.unequal_classes train --sets FOLDER --out RUNS --draws 0 1
    python -m benchmarks.plans.unequal_classes score --out RUNS
    python -m benchmarks.plans.unequal_classes equal --out RESULTS

RESULTS has `runs-features-starter` of commit f8f04b89.

FOLDER has the sets of `benchmarks.data.prepare`, and `thumbnails`. A stored run is not repeated.
"""

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.run_store import RunStore
from core.clip.config import resolve_config
from core.clip.data.header import ImageLimits
from core.clip.data.loader import read_images
from core.clip.inference import pile
from core.clip.inference.class_offsets import NEW_CLASS, NEW_CLASS_BALANCE, class_offsets
from core.clip.inference.discriminants import linear_discriminants
from core.clip.inference.pile import less_prior
from core.clip.inference.request_rule import TEXT_COUNTS_AS, RequestRule, kind_of, trained_scores
from core.clip.inference.self_training import ROUNDS, SURE_SHARE
from core.clip.models.backbone import load_backbone, tower_parameters, with_parameters
from core.clip.models.features import build_zero_shot_classifier, file_features
from core.clip.prompts import class_prompts
from core.clip.training.progress import Reporter
from core.clip.training.trainer import fine_tune
from core.clip.weights.delta import encode
from core.clip.weights.support_set import encode_support_set
from core.settings import get_settings

SETS = ("thumbnails", "clothing", "cifar10", "trashnet", "digits", "signs", "stamps", "clipart", "symbols")
SETS += ("living", "things")
COUNTS = {"16-2": (16, 2), "one-16-2": (16, 2), "8-1": (8, 1), "16-4": (16, 4), "5-5": (5, 5)}
ALWAYS_NEW = {"thumbnails": ("hat", "shoes")}
TESTS, LABELS, ALPHA, SIDE = 40, 3, 0.5, 20
REQUESTS = ("closed", "mixed", "collection", "sort", "labels")
ARMS = ("text", "served", "noise", "prior", "neither", "floor", "end", "label noise", "shots")


def thumbnails(clothing: Path, folder: Path) -> None:
    for path in sorted(clothing.glob("*/*/*")):
        target = folder / path.relative_to(clothing).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(target)


def drawn(name: str, folder: Path, counts: str, draw: int) -> dict[str, Any]:
    """Return the names, the trained ones first, the numbers of shots, and the files of shots and tests."""
    generator = np.random.default_rng(draw)
    names = sorted(path.name for path in (folder / "train").iterdir())
    names = [names[i] for i in generator.permutation(len(names))]
    names.sort(key=lambda n: n in ALWAYS_NEW.get(name, ()))
    trained, (large, small) = 4 if len(names) < 8 else 8, COUNTS[counts]
    shots, labels, tests, truth = [], [], [], []
    for i, each in enumerate(names):
        train, test = (sorted((folder / half / each).iterdir()) for half in ("train", "test"))
        if name == "stamps":
            pool = train + test
            pool = [pool[j] for j in generator.permutation(len(pool))]
            train, test = pool[: len(pool) // 2], pool[len(pool) // 2 :]
        else:
            train = [train[j] for j in generator.permutation(len(train))]
            test = [test[j] for j in generator.permutation(len(test))]
        if i < trained:
            is_large = i == 0 if counts.startswith("one") else i % 2 == 0
            own = train[: large if is_large else small]
            shots += own
            labels += [i] * len(own)
        tests += test[:TESTS]
        truth += [i] * len(test[:TESTS])
    return {
        "names": names,
        "trained": trained,
        "shots": shots,
        "labels": labels,
        "tests": tests,
        "truth": truth,
    }


def train(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    recipe = resolve_config(backbone="starter")
    backbone = load_backbone(
        "starter", cache=get_settings().cache, image_size=recipe.image_size, device="cpu"
    )
    if "thumbnails" in options.only and not (options.sets / "thumbnails").exists():
        thumbnails(options.sets / "clothing", options.sets / "thumbnails")
    for draw in options.draws:
        for counts in options.counts:
            for name in options.only:
                out = options.out / f"{name}-{counts}-{draw}.npz"
                if out.exists():
                    continue
                job = drawn(name, options.sets / name, counts, draw)
                config = replace(resolve_config(backbone="starter", images=len(job["shots"])), seed=draw)
                prompts = [class_prompts(each, config.templates, config.prompts) for each in job["names"]]
                side = math.ceil(backbone.image_size / math.sqrt(max(config.crop_scale, 0.25)))
                images = read_images(job["shots"], ImageLimits(), side)
                theta_1 = fine_tune(
                    backbone, images, job["labels"], prompts[: job["trained"]], config, Reporter()
                )
                theta_0 = tower_parameters(backbone.model)
                delta = encode(theta_0, theta_1, config.delta_format)
                support = encode_support_set(backbone, delta, images, job["labels"], up_to=ALPHA)
                network = with_parameters(backbone, delta.theta(theta_0, ALPHA))
                adapted = replace(backbone, model=network)
                options.out.mkdir(parents=True, exist_ok=True)
                np.savez_compressed(
                    out.with_suffix(".partial.npz"),
                    names=np.array(job["names"]),
                    shots=support.at(ALPHA).numpy(),
                    labels=support.labels.numpy(),
                    texts=build_zero_shot_classifier(network, backbone.tokenize, prompts).numpy(),
                    stock_texts=build_zero_shot_classifier(
                        backbone.model, backbone.tokenize, prompts
                    ).numpy(),
                    images=file_features(adapted, job["tests"], ImageLimits()).numpy(),
                    truth=np.array(job["truth"]),
                    scale=backbone.logit_scale,
                )
                out.with_suffix(".partial.npz").replace(out)
                print(out.stem, flush=True)


def discriminants(features: Tensor, labels: Tensor, noisy: Sequence[int] | None) -> Any:
    """Return the discriminants with the noise term for some labels; None: for all, as served."""
    found = linear_discriminants(features, labels)
    if found is None or noisy is None:
        return found
    classes, counts = labels.unique(return_counts=True)
    noise = features.shape[1] / 2 / (len(features) - len(classes)) * (1 / counts - 1 / counts.max())
    quiet = ~torch.isin(classes, torch.tensor(list(noisy), dtype=torch.long))
    return found[0], found[1] - 0.5 * noise * quiet


def rule_of(
    shots: tuple[Tensor, Tensor], texts: Tensor, classes: list[int], noisy: Sequence[int] | None
) -> RequestRule:
    """`request_rule` with a choice of the noise term."""
    kind = kind_of(classes)
    found = discriminants(*shots, noisy)
    weights, among = trained_scores(*shots, texts, classes, NEW_CLASS_BALANCE, TEXT_COUNTS_AS, found)
    weights = texts if among is None or kind == "mixed" else weights
    return RequestRule(kind, weights, class_offsets(*shots, weights, classes, NEW_CLASS_BALANCE), among)


def less_of(labels: Tensor, classes: list[int], scale: float) -> Tensor:
    counts = labels.bincount(minlength=max(classes) + 1)
    less = torch.zeros(len(counts))
    at = counts.nonzero()[:, 0]
    less[at] = torch.from_numpy(less_prior(counts[at].numpy(), scale))
    return less[[c for c in classes if c != NEW_CLASS]]


def with_prior(
    rule: RequestRule, trained: tuple[Tensor, Tensor], classes: list[int], scale: float, floor: bool
) -> tuple[RequestRule, float]:
    """Return the rule with the prior, and its strength."""
    among, strength = rule.among_trained, 1.0
    if among is None:
        return rule, 1.0
    less = less_of(trained[1], classes, scale)
    if floor:
        own = torch.tensor([c for c in classes if c != NEW_CLASS])
        scores = trained[0] @ among.weights.T + among.biases

        def half(at: float) -> Tensor:
            hit = own[(scores - at * less).argmax(dim=1)] == trained[1]
            return torch.stack([hit[trained[1] == c].float().mean() >= 0.5 for c in asked])

        numbers = trained[1].bincount()
        asked = [c for c in own.tolist() if c < len(numbers) and numbers[c] >= 4]
        while asked and (half(0) & ~half(strength)).any():
            strength /= 2
    return replace(rule, among_trained=replace(among, biases=among.biases - strength * less)), strength


def self_trained(
    trained: tuple[Tensor, Tensor], texts: Tensor, classes: list[int], images: Tensor, scale: float, arm: str
) -> RequestRule:
    noisy = None if arm in ("served", "noise") else ()

    def finished(rule: RequestRule, shots: tuple[Tensor, Tensor], last: bool) -> RequestRule:
        if arm == "shots":
            return with_prior(rule, shots, classes, scale, True)[0]
        if arm in ("prior", "floor") or (arm in ("served", "end") and last):
            return with_prior(rule, trained, classes, scale, arm in ("floor", "end"))[0]
        return rule

    rule = finished(rule_of(trained, texts, classes, noisy), trained, False)
    for number in range(ROUNDS):
        probability, predicted = (scale * rule.scores(images)).softmax(dim=1).max(dim=1)
        rows, labels = [], []
        for column, label in enumerate(classes):
            own = (predicted == column).nonzero()[:, 0]
            surest = probability[own].argsort(descending=True, stable=True)[: int(SURE_SHARE * len(own))]
            rows.append(own[surest])
            labels += [label] * len(surest)
        grown = (
            torch.cat([trained[0], images[torch.cat(rows)]]),
            torch.cat([trained[1], torch.tensor(labels, dtype=torch.long)]),
        )
        rule = finished(rule_of(grown, texts, classes, noisy), grown, number == ROUNDS - 1)
    return rule


def one_rule(
    shots: tuple[Tensor, Tensor],
    trained: tuple[Tensor, Tensor],
    texts: Tensor,
    classes: list[int],
    scale: float,
    arm: str,
) -> tuple[RequestRule, float]:
    """Return the rule of an arm, and the strength of its prior."""
    if arm == "text":
        return RequestRule("untrained", texts, texts.new_zeros(len(texts))), 0.0
    new = sorted(set(shots[1].tolist()) - set(trained[1].tolist()))
    noisy = None if arm in ("served", "noise") else new if arm == "label noise" else ()
    rule = rule_of(shots, texts, classes, noisy)
    if arm in ("noise", "neither"):
        return rule, 0.0
    counted = shots if arm == "shots" else trained
    return with_prior(rule, counted, classes, scale, arm in ("floor", "end", "label noise", "shots"))


def answers(run: Any, request: str, arm: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Return predicted classes and truth of the measured images, and the strength of the prior."""
    texts, images, truth = (torch.from_numpy(run[k]) for k in ("texts", "images", "truth"))
    trained, scale = (torch.from_numpy(run["shots"]), torch.from_numpy(run["labels"])), float(run["scale"])
    k, c = int(trained[1].max()) + 1, len(texts)
    known = truth < k
    if request == "mixed":
        rule, strength = one_rule(trained, trained, texts, [*range(k), *[NEW_CLASS] * (c - k)], scale, arm)
        return rule.scores(images).argmax(dim=1).numpy(), truth.numpy(), strength
    if request == "labels":
        first = torch.cat([(truth == each).nonzero()[:LABELS, 0] for each in range(k, c)])
        rest = torch.ones(len(truth), dtype=torch.bool)
        rest[first] = False
        shots = torch.cat([trained[0], images[first]]), torch.cat([trained[1], truth[first]])
        rule, strength = one_rule(shots, trained, texts, list(range(c)), scale, arm)
        return rule.scores(images[rest]).argmax(dim=1).numpy(), truth[rest].numpy(), strength
    classes = list(range(k))
    rule, strength = one_rule(trained, trained, texts[:k], classes, scale, arm)
    free = torch.ones(len(images), dtype=torch.bool)
    if request == "sort":
        support = pile.Support.of(trained[0].numpy(), trained[1].numpy())
        free = torch.from_numpy(pile.something_else(support, images.numpy()).known)
    else:
        images, truth, free = images[known], truth[known], free[known]
    if request != "closed" and arm != "text":
        counts = rule.scores(images[free]).argmax(dim=1).bincount(minlength=k)
        if counts.min() >= max(1, 0.5 * int(counts.sum()) / k):
            rule = self_trained(trained, texts[:k], classes, images[free], scale, arm)
    found = rule.scores(images).argmax(dim=1)
    found[~free] = -1
    kept = truth < k
    return found[kept].numpy(), truth[kept].numpy(), strength


def equal(options: argparse.Namespace) -> None:
    """Print the labels of new classes beside trained ones with 16 images each, of stored features."""
    store, found = RunStore(options.out, "features-starter"), defaultdict(list)
    scale = load_backbone("starter", cache=get_settings().cache, image_size=160, device="cpu").logit_scale
    for key in store.names():
        stored = store.get(key)
        assert stored is not None

        def normalised(name: str, stored: Any = stored) -> Tensor:
            rows = torch.from_numpy(stored.array(name).astype(np.float32))
            return torch.nn.functional.normalize(rows, dim=-1)

        trained = stored.array("trained").tolist()
        order = [*trained, *(c for c in range(len(stored.array("class_names"))) if c not in trained)]
        place = np.argsort(order)
        run = {
            "texts": normalised("texts@0.5")[order].numpy(),
            "images": normalised("images@0.5").numpy(),
            "truth": place[stored.array("truth")],
            "shots": normalised("shots@0.5").numpy(),
            "labels": stored.array("shot_labels"),
            "scale": scale,
        }
        for arm in ("served", "neither", "label noise", "shots"):
            at, truth, _ = answers(run, "labels", arm)
            hit, known = at == truth, truth < len(trained)
            found[key.split("/")[0], arm].append([hit.mean(), hit[known].mean(), hit[~known].mean()])
    sets = sorted({name for name, _ in found})
    means = {arm: np.array([np.mean(found[s, arm], axis=0) for s in sets]) for _, arm in found}
    print("labels, 16 images per trained class: all / trained / new; all less served: mean, worst")
    for arm, table in means.items():
        gap = table[:, 0] - means["served"][:, 0]
        cells = " / ".join(f"{x:.3f}" for x in table.mean(axis=0))
        print(f"  {arm:12} {cells}  {gap.mean():+.3f} {gap.min():+.3f} ({sets[int(gap.argmin())]})")


def arms_of(request: str) -> Iterator[str]:
    for arm in ARMS:
        if arm == "end" and request not in ("collection", "sort"):
            continue
        if arm == "label noise" and request != "labels":
            continue
        yield arm


def score(options: argparse.Namespace) -> None:
    rows: dict[tuple[str, str, str, str], list[list[float]]] = defaultdict(list)
    runs: dict[str, set[str]] = defaultdict(set)
    for path in sorted(options.out.glob("*.npz")):
        name, rest = path.stem.split("-", 1)
        counts, draw = rest.rsplit("-", 1)
        runs[counts].add(f"{name} {draw}")
        run = np.load(path)
        numbers = np.bincount(run["labels"])
        is_large = np.append(numbers > numbers.min(), np.zeros(len(run["texts"]) - len(numbers), bool))
        k = len(numbers)
        for request in REQUESTS:
            for arm in arms_of(request):
                found, truth, strength = answers(run, request, arm)
                hit, large = found == truth, is_large[truth]
                small = (truth < k) & ~large
                if counts == "5-5":  # equal classes: all trained ones beside the new ones
                    large, small = truth < k, truth >= k
                row = [hit.mean(), hit[large].mean(), hit[small].mean() if small.any() else 0.0, strength]
                rows[counts, request, arm, name].append([float(x) for x in row])
    means = {key: np.mean(values, axis=0) for key, values in rows.items()}
    stored = {"/".join(key): [round(float(x), 4) for x in value] for key, value in means.items()}
    (Path(__file__).parent / "unequal_classes.json").write_text(json.dumps(stored, indent=0) + "\n")
    report(means, runs)


def report(means: dict[tuple[str, str, str, str], np.ndarray], runs: dict[str, set[str]]) -> None:
    def cell(x: Sequence[float]) -> str:
        return " / ".join(f"{v:.3f}"[1:] if 0 <= v < 1 else f"{v:.3f}" for v in x[:3])

    ok = True
    for counts in (c for c in COUNTS if c in runs):
        print(f"\n# {counts}: {len(runs[counts])} runs")
        sets = sorted({name for c, *_, name in means if c == counts})
        for request in REQUESTS:
            arms = list(arms_of(request))
            table = {arm: np.array([means[counts, request, arm, s] for s in sets]) for arm in arms}
            better = np.maximum(table["noise"][:, 0], table["prior"][:, 0])
            print(f"\n{request}: all / large / small or new; all less the better remedy: mean, worst")
            for arm in arms:
                gap = table[arm][:, 0] - better
                ratio = table[arm][:, 1] / np.maximum(table["neither"][:, 1], 1e-9)
                line = f"  {arm:12} {cell(table[arm].mean(axis=0))}  {gap.mean():+.3f} "
                line += f"{gap.min():+.3f} ({sets[int(gap.argmin())]})  large, of neither: "
                line += f"{ratio.min():.2f} ({sets[int(ratio.argmin())]})"
                if arm in ("floor", "shots"):
                    good = gap.mean() >= -0.01 and gap.min() >= -0.03 and ratio.min() >= 0.8
                    ok &= bool(good) or arm == "floor"
                    line += "  HOLDS" if good else "  FAILS"
                print(line)
        print("\nby set, closed: all / large / small; strength of floor")
        shown = ("text", "served", "noise", "prior", "neither", "shots")
        print(f"  {'set':11}" + "".join(f"{arm:22}" for arm in shown))
        for s in sets:
            cells = "".join(f"{cell(means[counts, 'closed', arm, s]):22}" for arm in shown)
            print(f"  {s:11}{cells}{means[counts, 'closed', 'shots', s][3]:.2f}")
    print("\nall conditions hold" if ok else "\nsome condition fails")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=["train", "score", "equal"])
    parser.add_argument("--sets", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--draws", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", default=SETS)
    parser.add_argument("--counts", nargs="+", default=list(COUNTS))
    options = parser.parse_args(arguments)
    if options.step == "train":
        train(options)
    elif options.step == "score":
        score(options)
    else:
        equal(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
