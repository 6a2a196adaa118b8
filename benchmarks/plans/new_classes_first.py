"""Which images to label first, with two new names.

Rule, fixed before the run: of 2 and 3 sure images per new name, the number with the higher mean accuracy after 20
labels and a training on clothing and cifar10. It is adopted if that mean is at least .02 above the served order,
and if on clipart, living, things and signs the mean is at least equal and no set loses more than .03.

    clipcite serve --data FOLDER --port 8765
    CLIPCITE_DATA=FOLDER python -m benchmarks.plans.new_classes_first ARM rows.json SET [SET ...]

The number is `NEW_CLASS_IMAGES` of api/classify/collection.py (0: the order before). The first model of a set is
trained once; its id stands beside the rows.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

from benchmarks.sorted_collections import NEW, draw, sort, trained
from clipcite import Client

arm, out, sets = sys.argv[1], Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]]
rows = json.loads(out.read_text()) if out.exists() else []
with Client() as client:
    for folder in sets:
        shots, truth = draw(folder, 0)
        names = sorted(shots)
        kept = out.with_name(f"first-{folder.name}.txt")
        if kept.exists():
            first = client.models.get(kept.read_text())
        else:
            first = trained(client, client.adapt({name: shots[name] for name in names[: len(names) - NEW]}))
            kept.write_text(first.id)
        before, suggested = sort(client, first, names, truth, set(), 20)
        by_class: dict[str, list[Path]] = defaultdict(list)
        for path in suggested:
            by_class[truth[path]].append(path)
        model = trained(client, first.extend(by_class))
        after, _ = sort(client, model, names, truth, set(suggested), 0)
        labels = {name: len(by_class[name]) for name in names[-NEW:]}
        accuracies = {"image by image": after["image by image"], "collection": after["collection"]}
        rows.append({"set": folder.name, "arm": arm, "labels of new": labels, **accuracies})
        print(rows[-1], flush=True)
        out.write_text(json.dumps(rows))
