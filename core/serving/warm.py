"""A classifier that is loaded and remembers the features of the texts it was asked for."""

import threading
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from core.clip.classifier import Classifier

TEXT_FEATURES = 20_000  # per model: classes whose features are kept, a few kB each


class WarmClassifier:
    def __init__(self, classifier: Classifier, *, shared: bool) -> None:
        """`shared`: the network is a backbone that others hold too, and costs nothing here."""
        self.classifier = classifier
        self.bytes = 0 if shared else _bytes(classifier)
        self._rows: OrderedDict[tuple[str, ...], Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def text_features(self, texts: Sequence[tuple[str, ...]]) -> Tensor:
        """The head [C, D]; only classes that were not asked for lately are encoded."""
        with self._lock:
            rows = {t: self._rows[t] for t in texts if t in self._rows}
            for known in rows:
                self._rows.move_to_end(known)
        missing = [t for t in dict.fromkeys(texts) if t not in rows]
        if missing:
            rows.update(zip(missing, self.classifier.text_features(missing), strict=True))
        with self._lock:
            # Copies: a row of a head would keep the whole head.
            self._rows.update((t, rows[t].clone()) for t in missing)
            while len(self._rows) > TEXT_FEATURES:
                self._rows.popitem(last=False)
        return torch.stack([rows[t] for t in texts])


def _bytes(classifier: Classifier) -> int:
    return sum(t.numel() * t.element_size() for t in classifier.model.state_dict().values())
