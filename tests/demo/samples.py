"""Small predictions to compare, made by hand."""

from io import BytesIO

import numpy as np
from PIL import Image

from core.clip.evaluation.predictions import Candidates, ClassScores, HeldOutPredictions
from core.clip.evaluation.report import job_metrics
from demo.compare import ModelScores, Result, result_of
from demo.images import ImageSplit, LabelledImage


def png() -> bytes:
    data = BytesIO()
    Image.new("RGB", (30, 20), "red").save(data, "PNG")
    return data.getvalue()


def answers(names: list[str], chosen: list[str]) -> ModelScores:
    """Give the chosen class of each image 0.8, and the other classes less."""
    scores = np.full((len(chosen), len(names)), 0.1, np.float32)
    scores[range(len(chosen)), [names.index(name) for name in chosen]] = 0.8
    return ModelScores(scores, scores / scores.sum(axis=1, keepdims=True))


def result(truths: list[str], stock: list[str], adapted: list[str], trained: list[str]) -> Result:
    """Compare the classes chosen by two models, with the metrics of a job that measured the same."""
    train = tuple(LabelledImage(name, "shot.png", png()) for name in trained)
    test = tuple(LabelledImage(name, f"<{i}>.png", png()) for i, name in enumerate(truths))
    images = ImageSplit(train, test)
    before, now = answers(images.names, stock), answers(images.names, adapted)
    stock_ranked, ranked = (
        ClassScores(of.scores[:, : len(trained)].astype(float), of.scores.astype(float))
        for of in (before, now)
    )
    held = HeldOutPredictions(
        Candidates(tuple(images.names), len(trained), tuple((name,) for name in images.names)),
        np.arange(len(truths)),
        np.array([images.names.index(name) for name in truths]),
        stock_ranked,
        stock_ranked,
        ranked,
        {},
        np.arange(0),
    )
    metrics = job_metrics(held, None, source="test", trained_images=len(trained))
    return result_of(images, before, now, metrics)
