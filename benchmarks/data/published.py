"""Published accuracies: ViT-B/16 with OpenAI's weights, 16 shots per class, mean of three seeds.

All accuracies are in per cent, as printed. `checked` names the text in which a figure was read, because
quotations do not always agree with the paper. Data sets are named as in benchmarks.data.papers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figures:
    """Base-to-new accuracy on base and new classes, each with the classes of its half as candidates."""

    base: float
    new: float
    hm: float
    """Harmonic mean as printed; a few values differ from the computed one."""


@dataclass(frozen=True)
class Published:
    source: str
    """Paper, arXiv number and table."""
    checked: str
    average: Figures
    """Averages over the 11 data sets; the HM is computed from them."""
    datasets: Mapping[str, Figures] = field(default_factory=dict)
    """Figures by data set; empty if only the average was checked."""
    beyond_shots: str = ""
    """Data used besides 16 labelled images per base class."""


COCOOP_1 = "CoCoOp (Zhou et al., CVPR 2022, arXiv 2203.05557), table 1"
PROMPTKD_1 = "table 1 of PromptKD, in the authors' repository (zhengli97/PromptKD)"
CITE = "CLIP-CITE (Liu et al., arXiv 2407.04003; Knowledge-Based Systems 2025), base-to-new table"
LIST = (
    "the comparison in zhengli97/Awesome-Prompt-Adapter-Learning-for-Vision-Language-Models; the paper "
    "itself was not available"
)
SECOND_HAND = "another paper's table, or a curated list; the paper itself was not available"

BY_DATA_SET = (
    """
              | CLIP              | CoOp              | CoCoOp            | MaPLe
ImageNet      | 72.43 68.14 70.22 | 76.47 67.88 71.92 | 75.98 70.43 73.10 | 76.66 70.54 73.47
Caltech101    | 96.84 94.00 95.40 | 98.00 89.81 93.73 | 97.96 93.81 95.84 | 97.74 94.36 96.02
OxfordPets    | 91.17 97.26 94.12 | 93.67 95.29 94.47 | 95.20 97.69 96.43 | 95.43 97.76 96.58
StanfordCars  | 63.37 74.89 68.65 | 78.12 60.40 68.13 | 70.49 73.59 72.01 | 72.94 74.00 73.47
Flowers102    | 72.08 77.80 74.83 | 97.60 59.67 74.06 | 94.87 71.75 81.71 | 95.92 72.46 82.56
Food101       | 90.10 91.22 90.66 | 88.33 82.26 85.19 | 90.70 91.29 90.99 | 90.71 92.05 91.38
FGVCAircraft  | 27.19 36.29 31.09 | 40.44 22.30 28.75 | 33.41 23.71 27.74 | 37.44 35.61 36.50
SUN397        | 69.36 75.35 72.23 | 80.60 65.89 72.51 | 79.74 76.86 78.27 | 80.82 78.70 79.75
DTD           | 53.24 59.90 56.37 | 79.44 41.18 54.24 | 77.01 56.00 64.85 | 80.36 59.18 68.16
EuroSAT       | 56.48 64.05 60.03 | 92.19 54.74 68.69 | 87.49 60.04 71.21 | 94.07 73.23 82.35
UCF101        | 70.53 77.50 73.85 | 84.69 56.05 67.46 | 82.33 73.45 77.64 | 83.00 78.66 80.77
""",
    """
              | PromptSRC         | PromptKD          | CLIP-CITE
ImageNet      | 77.60 70.73 74.01 | 80.83 74.66 77.62 | 78.44 71.07 74.58
Caltech101    | 98.10 94.03 96.02 | 98.91 96.65 97.77 | 98.82 94.28 96.50
OxfordPets    | 95.33 97.30 96.30 | 96.30 98.01 97.15 | 96.01 97.95 96.97
StanfordCars  | 78.27 74.97 76.58 | 82.80 83.37 83.13 | 82.83 74.51 78.45
Flowers102    | 98.07 76.50 85.95 | 99.42 82.62 90.24 | 95.98 76.45 85.11
Food101       | 90.67 91.53 91.10 | 92.43 93.68 93.05 | 90.81 91.55 91.18
FGVCAircraft  | 42.73 37.87 40.15 | 49.12 41.81 45.17 | 47.26 38.37 42.35
SUN397        | 82.67 78.47 80.52 | 83.69 81.54 82.60 | 82.30 79.40 80.82
DTD           | 83.37 62.97 71.75 | 85.84 71.37 77.94 | 84.26 64.54 73.09
EuroSAT       | 92.90 73.90 82.32 | 97.54 82.08 89.14 | 95.61 80.59 87.46
UCF101        | 87.10 78.80 82.74 | 89.71 82.27 86.10 | 87.56 79.01 83.07
""",
)
"""Base, new and HM. UCF101's HM of PromptKD is as printed; the harmonic mean is 85.83."""


def _figures(method: str) -> dict[str, Figures]:
    """Return the figures of a method by data set."""
    for table in BY_DATA_SET:
        (_, *methods), *rows = ([cell.strip() for cell in line.split("|")] for line in table.splitlines()[1:])
        if method in methods:
            at = 1 + methods.index(method)
            return {row[0]: Figures(*map(float, row[at].split())) for row in rows}
    raise KeyError(method)


BASE_TO_NEW: Mapping[str, Published] = {
    "CLIP": Published(
        source=COCOOP_1,
        checked=PROMPTKD_1,
        average=Figures(69.34, 74.22, 71.70),
        datasets=_figures("CLIP"),
    ),
    "CoOp": Published(
        source=COCOOP_1,
        checked=PROMPTKD_1,
        average=Figures(82.69, 63.22, 71.66),
        datasets=_figures("CoOp"),
    ),
    "CoCoOp": Published(
        source=COCOOP_1,
        checked=PROMPTKD_1,
        average=Figures(80.47, 71.69, 75.83),
        datasets=_figures("CoCoOp"),
    ),
    "MaPLe": Published(
        source="MaPLe (Khattak et al., CVPR 2023, arXiv 2210.03117), base-to-novel table",
        checked="average: README of the authors' repository; data sets: " + PROMPTKD_1,
        average=Figures(82.28, 75.14, 78.55),
        datasets=_figures("MaPLe"),
    ),
    "PromptSRC": Published(
        source="PromptSRC (Khattak et al., ICCV 2023, arXiv 2307.06948), base-to-novel table",
        checked="average: README of the authors' repository; data sets: " + PROMPTKD_1,
        average=Figures(84.26, 76.10, 79.97),
        datasets=_figures("PromptSRC"),
    ),
    "CLIPood": Published(
        source="CLIPood (Shu et al., ICML 2023, arXiv 2302.00864), which prints one decimal",
        checked="CLIP-CITE's base-to-new table, which prints two",
        average=Figures(83.90, 74.50, 78.92),
    ),
    "2SFS": Published(
        source="2SFS (Farina et al., CVPR 2025, arXiv 2503.11609), base-to-novel table",
        checked=LIST,
        average=Figures(85.55, 75.48, 80.20),
    ),
    "MMRL": Published(
        source="MMRL (Guo and Gu, CVPR 2025, arXiv 2503.08497), base-to-novel table",
        checked=LIST,
        average=Figures(85.68, 77.16, 81.20),
    ),
    "ProLIP": Published(
        source='ProLIP (arXiv 2410.05270), base-to-new table with the prompt "a photo of a {}."',
        checked="the paper",
        average=Figures(83.90, 74.78, 79.08),
    ),
    "SkipTuning": Published(
        source="SkipTuning (CVPR 2025, arXiv 2412.11509), base-to-new table",
        checked=SECOND_HAND,
        average=Figures(85.04, 77.53, 81.11),
    ),
    "TAC": Published(
        source="TAC (CVPR 2025; arXiv number not checked), base-to-new table",
        checked=SECOND_HAND,
        average=Figures(85.42, 77.60, 81.24),
    ),
    "HiCroPL": Published(
        source="HiCroPL (ICCV 2025; arXiv number not checked), base-to-new table",
        checked="the paper",
        average=Figures(85.89, 77.99, 81.75),
        beyond_shots="perhaps texts of a language model, which was not checked",
    ),
    "SkipTuning + GDM": Published(
        source="GDM (AAAI 2026; arXiv number not checked), base-to-new table",
        checked="the paper",
        average=Figures(85.73, 78.65, 82.04),
        beyond_shots="descriptions of the classes by a language model",
    ),
    "MMRL + Promise": Published(
        source="Promise (ICLR 2026; arXiv number not checked), base-to-new table",
        checked=SECOND_HAND,
        average=Figures(86.14, 78.84, 82.33),
    ),
    "VaMP": Published(
        source="VaMP (NeurIPS 2025; arXiv number not checked), base-to-new table",
        checked=SECOND_HAND,
        average=Figures(86.45, 78.67, 82.37),
    ),
    "PromptKD": Published(
        source="PromptKD (Li et al., CVPR 2024, arXiv 2403.02781), table 1",
        checked=PROMPTKD_1,
        average=Figures(86.96, 80.73, 83.73),
        datasets=_figures("PromptKD"),
        beyond_shots=(
            "all training images of all classes and the names of the new ones, without labels but with the "
            "predictions of a ViT-L/14 teacher (PromptSRC on the 16 shots); not comparable with the others"
        ),
    ),
    "OnPoKD": Published(
        source="OnPoKD (arXiv 2609.10321), base-to-new table",
        checked=SECOND_HAND,
        average=Figures(87.26, 82.13, 84.62),
        beyond_shots="the same as PromptKD; not comparable with the others",
    ),
    "CLIP-CITE": Published(
        source=CITE,
        checked="notes from the paper; its rows average 85.44 / 77.07, not the printed mean",
        average=Figures(85.48, 77.08, 81.06),
        datasets=_figures("CLIP-CITE"),
    ),
}

CLIP_CITE_ALPHA_1 = Figures(85.79, 73.52, 79.19)
"""CLIP-CITE without the weight ensemble, average of the 11 data sets (arXiv 2407.04003)."""

DOMAIN_GENERALISATION: Mapping[str, float] = {
    "CLIP": 57.2,
    "CoOp": 59.28,
    "CoCoOp": 59.91,
    "CLIP-CITE": 60.7,
}
"""Mean accuracy on V2, Sketch, A and R, trained on ImageNet. CLIP and CLIP-CITE: arXiv 2407.04003. CoOp and
CoCoOp: the list named above; they equal the means of its four accuracies."""

EUROSAT_TO_IMAGENET: Mapping[str, tuple[float, float]] = {
    "CLIP": (72.43, 68.14),
    "CoOp": (51.81, 49.69),
    "MaPLe": (40.43, 45.80),  # table 3 and the text; figure 1c has 36.88 / 44.76
    "CLIP-CITE": (72.29, 68.38),
}
"""Cross-domain accuracy on ImageNet's base and new classes, trained on EuroSAT's base classes (arXiv
2407.04003, introduction). CLIP is not trained."""
