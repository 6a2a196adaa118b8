"""Find possible label issues in a labelled collection of images.

    python examples/find_mislabelled.py collection

The collection has one folder per class, with at least five images each. In cross-validation, fold models
predict the class of images that they were not trained on. Images with another prediction may be mislabelled.
The report with the images is saved beside the folder.
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
    arguments = parser.parse_args()
    collection = arguments.collection.resolve()

    config = {} if arguments.epochs is None else {"epochs": arguments.epochs}
    with Client() as client:  # address: CLIPCITE_URL or http://127.0.0.1:8000
        checked = client.preflight(collection, config=config)
        print(f"{checked.good} of {checked.images} images without findings.")
        for finding in checked.findings:
            if finding.other is not None:  # duplicates, perhaps with different labels
                print(f"  {finding.file}: {finding.detail}")

        job = client.adapt(collection, name=collection.name, config=config, on_bad_image="skip")
        job.wait(on_change=show)
        report = job.report()
        page = collection.with_name(f"{collection.name}-report.html")
        page.write_text(job.report_page(), encoding="utf-8")

    print(report.summary)
    for image in report.label_issues:
        prediction = f"predicted {image.predicted} ({image.probability:.0%})"
        print(f"  {image.file_name}: labelled {image.class_name}, {prediction}")
    if report.label_issues_note:
        print(report.label_issues_note)
    print(f"{len(report.label_issues)} possible label issues. Report with images: {page}")


def show(job: Job) -> None:
    progress = job.progress
    if progress is not None:
        print(f"\r{progress.stage} {progress.fraction:.0%}  ", end="\n" if job.finished else "", flush=True)


if __name__ == "__main__":
    main()
