"""The commands behind `clipcite backup`, `restore` and `verify`. They print JSON, and progress to stderr.

python -m core.store.backup create FOLDER [--keep N]
python -m core.store.backup restore FOLDER [--snapshot NAME] [--as-new]
python -m core.store.backup verify [FOLDER] [--snapshot NAME]
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.settings import Settings, get_settings
from core.store.accounts import audit
from core.store.admin import print_answer
from core.store.backup import create, restore, snapshots, verify
from core.store.db.session import Database
from core.store.storage.blobs import Blobs


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    settings = get_settings()
    return print_answer(settings.sqlalchemy_url(), lambda database: options.do(settings, database, options))


def _create(settings: Settings, database: Database, options: argparse.Namespace) -> dict[str, Any]:
    database.check()
    with snapshots.lock(options.folder):
        backup = snapshots.open_folder(options.folder)
        name, manifest = create.create(
            settings.sqlalchemy_url(), database, Blobs.of(settings), backup, report=_report
        )
        pruned = create.prune(backup, options.keep) if options.keep else []
        with database.write() as session:
            audit.record(session, "backup.create", name)
    return {"snapshot": name, **asdict(manifest), "pruned": pruned}


def _restore(settings: Settings, database: Database, options: argparse.Namespace) -> dict[str, Any]:
    with snapshots.lock(options.folder, to_read=True):
        restored = restore.restore(
            settings.sqlalchemy_url(),
            Blobs.of(settings),
            snapshots.open_folder(options.folder),
            name=options.snapshot,
            as_new=options.as_new,
            report=_report,
        )
        with database.write() as session:
            audit.record(session, "backup.restore", restored.snapshot)
        return asdict(restored)


def _verify(settings: Settings, database: Database, options: argparse.Namespace) -> dict[str, Any]:
    if options.folder is not None:
        return asdict(verify.verify_backup(snapshots.open_folder(options.folder), options.snapshot))
    database.check()
    return asdict(verify.verify_installation(database, Blobs.of(settings)))


def _report(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _existing(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"There is no folder {text}.")
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="core.store.backup", description="Back up an installation.")
    verbs = parser.add_subparsers(required=True)
    creating = verbs.add_parser("create", help="Add a snapshot to a backup.")
    creating.add_argument("folder", type=Path)
    creating.add_argument("--keep", type=int, help="Delete all but the newest KEEP snapshots.")
    creating.set_defaults(do=_create)
    restoring = verbs.add_parser("restore", help="Restore into an empty installation.")
    restoring.add_argument("folder", type=_existing)
    restoring.add_argument("--snapshot", help="Name of the snapshot (default: the newest one).")
    restoring.add_argument("--as-new", action="store_true", help="Give the copy an id of its own.")
    restoring.set_defaults(do=_restore)
    verifying = verbs.add_parser("verify", help="Compare files with their hashes.")
    verifying.add_argument("folder", nargs="?", type=_existing)
    verifying.add_argument("--snapshot", help="Name of the snapshot (default: the newest one).")
    verifying.set_defaults(do=_verify)
    return parser


if __name__ == "__main__":
    sys.exit(main())
