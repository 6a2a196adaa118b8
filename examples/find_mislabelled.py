"""Which images of a labelled collection are probably under the wrong label?

    python examples/find_mislabelled.py collection

The folder has one folder for each class, with five images or more. Networks are trained that have seen a
part of it and are asked about the rest: what they take for another class is worth a look. The page with the
images is saved beside the folder.
"""

import argparse
from pathlib import Path

from clipcite import Client, Job


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("collection", type=Path)
    parser.add_argument("--epochs", type=int, help="default: the backbone's recipe")
    given = parser.parse_args()

    config = {} if given.epochs is None else {"epochs": given.epochs}
    with Client() as client:  # CLIPCITE_URL, or this machine
        found = client.look(given.collection, config=config)
        print(f"{found.good} of {found.images} images look good.")
        for finding in found.findings:
            if finding.other is not None:  # the same image twice, perhaps under two labels
                print(f"  {finding.file}: {finding.detail}")

        job = client.adapt(given.collection, name=given.collection.name, config=config, on_bad_image="skip")
        job.wait(on_change=show)
        report = job.report()
        page = given.collection.with_name(f"{given.collection.name}-report.html")
        page.write_text(job.report_page(), encoding="utf-8")

    print(report.summary)
    for one in report.label_issues:
        print(
            f"  {one.file_name}: labelled {one.class_name}, looks like {one.predicted} ({one.probability:.0%})"
        )
    print(f"{len(report.label_issues)} labels to look at. With the images: {page}")


def show(job: Job) -> None:
    progress = job.progress
    if progress is not None:
        print(f"\r{progress.stage} {progress.fraction:.0%}  ", end="\n" if job.ended else "", flush=True)


if __name__ == "__main__":
    main()
