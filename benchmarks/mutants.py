"""Known faults, each planted in a copy of the code: its test must fail.

    python -m benchmarks.mutants
    python -m benchmarks.mutants --only H1 H2

The faults survived all tests of an earlier version, or stand for a claim of the documentation. The tests of
an unchanged copy must pass first. The exit status is 1 if a fault survives, a line is stale, or a test ends
with an error instead of a failure. Add a fault with each bug that is fixed.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAX_SECONDS = 1_800
TIMED_OUT = 124


@dataclass(frozen=True)
class Mutant:
    id: str
    file: str
    old: str
    """Code that occurs exactly once in the file."""
    new: str
    test: str
    reason: str
    """Effect on the user, or on the results."""


CLIP, SERVING, TESTS = "core/clip", "core/serving", "tests/core"
PUBLISHING, LEASE = "tests/worker/test_publishing.py", "tests/worker/test_lease.py"
FOLDS = f"{TESTS}/clip/evaluation/test_cross_validation.py"
CUT_OFF = f"{LEASE}::test_a_worker_without_a_database_stops_before_its_lease_ends"
PAPER = "tests/benchmarks/methods/test_clip_cite_paper.py"
RULE, PREVIEW = f"{CLIP}/inference/request_rule.py", f"{CLIP}/inference/prototypes.py"
CLOSED = (
    f"{TESTS}/clip/inference/test_request_rule.py::"
    "test_a_closed_request_has_prototypes_offsets_and_discriminants"
)
PREVIEWED = (
    f"{TESTS}/clip/inference/test_prototypes.py::test_trained_or_new_is_decided_by_cosines_less_the_offsets"
)
TRAINED_ONES = f"{TESTS}/serving/test_previews.py::test_classes_with_training_images_are_the_trained_ones"
SUPPORT, PIPELINE = f"{CLIP}/weights/support_set.py", f"{TESTS}/clip/test_pipeline.py"
SAMPLED = f"{PIPELINE}::test_the_support_set_holds_a_sample_of_many_shots"
RETENTION = "tests/worker/dispatcher/test_retention.py"
DATASETS = "tests/clipcite/datasets/test_detect.py"
MUTANTS = [
    Mutant("B3", f"{CLIP}/inference/class_offsets.py", ".sum(dim=0).clamp(min=1)", ".sum(dim=0)",
           f"{TESTS}/clip/inference/test_class_offsets.py::test_shots_of_one_class_give_it_no_offset",
           "all scores are NaN if the shots have one class"),
    Mutant("B4", f"{CLIP}/inference/class_offsets.py", "if is_mixed else 1.0", "",
           f"{TESTS}/clip/inference/test_class_offsets.py::test_levels_count_less_with_few_trained_classes",
           "closed and foreign requests lose a part of their offsets if few classes are trained"),
    Mutant("B5", f"{CLIP}/inference/class_offsets.py", "{1: 0.2, 2: 0.4, 3: 0.6}", "{}",
           f"{TESTS}/clip/inference/test_class_offsets.py::test_two_and_three_classes_count_in_part_by_default",
           "levels count in full with two trained classes, and new ones lose"),
    Mutant("Q1", f"{SERVING}/batching/batch.py", " and items[0].rows.shape[1:] == shape:", ":",
           f"{TESTS}/serving/batching/test_batcher.py::test_rows_of_another_shape_get_their_own_batch",
           "requests fail because another one has other shapes"),
    Mutant("Q5", f"{SERVING}/batching/batcher.py", "queue is None or item.taken or", "queue is None or",
           f"{TESTS}/serving/batching/test_batcher.py::test_begun_work_is_not_withdrawn",
           "a request that is being computed is refused"),
    Mutant("C2", f"{SERVING}/pool/cache.py", "any(e.users > e.pins for e in used)", "used",
           f"{TESTS}/serving/pool/test_cache.py::test_a_pin_delays_no_load",
           "pinned models keep all others out"),
    Mutant("C3", f"{SERVING}/pool/cache.py", "if self._entries.get(entry.key) is entry:",
           "if entry.key in self._entries:",
           f"{TESTS}/serving/pool/test_cache.py::test_a_failed_forgotten_load_does_not_affect_a_later_one",
           "a failed load removes its successor"),
    Mutant("K1", "worker/job_runner.py", "if file_sha256(folder / WEIGHTS) != manifest.sha256:", "if False:",
           f"{PUBLISHING}::test_weights_that_changed_on_the_disk_are_not_published",
           "damaged weights are published"),
    Mutant("K3", "worker/job_runner.py", "published = True  # possibly:", "published = False  # possibly:",
           f"{PUBLISHING}::test_files_stay_if_the_commit_may_have_succeeded",
           "a published model has no files"),
    Mutant("K4", "worker/job_runner.py", "spend_attempt=not waits,", "spend_attempt=True,",
           f"{PUBLISHING}::test_a_full_or_absent_storage_costs_no_attempt", "a full disk fails jobs"),
    Mutant("K6", "worker/job_runner.py", "self.settings.redispatch_seconds if waits else 0,", "0,",
           f"{PUBLISHING}::test_a_full_or_absent_storage_costs_no_attempt",
           "a full disk is tried without a pause"),
    Mutant("K7", "worker/job_runner.py", "WAITS = {StorageFull.code, StorageUnavailable.code}",
           "WAITS = {StorageFull.code}",
           f"{PUBLISHING}::test_a_full_or_absent_storage_costs_no_attempt",
           "a bucket that restarts fails jobs"),
    Mutant("U1", "core/store/storage/bucket.py", '"max_retries": 200,', '"max_retries": 8,',
           f"{TESTS}/store/storage/test_bucket.py::test_a_server_that_restarts_is_waited_for",
           "requests to a bucket fail a second after it has stopped"),
    Mutant("K5", "worker/job_runner.py", "finished = True  # possibly", "finished = False  # possibly",
           f"{PUBLISHING}::test_files_stay_if_the_commit_may_have_succeeded",
           "an evaluated job has no report"),
    Mutant("H1", "worker/lease.py", "0.8 * self._lease_seconds", "8 * self._lease_seconds", CUT_OFF,
           "two workers run one job"),
    Mutant("H2", "worker/lease.py", "self._renewed = started", "self._renewed = time.monotonic()", CUT_OFF,
           "two workers run one job"),
    Mutant("T1", "core/store/db/client_timeout.py", "self._is_unchecked = True\n            return", "return",
           "tests/core/store/db/test_session.py::"
           "test_a_server_that_hangs_just_after_an_answer_is_detected_as_soon",
           "a hung database is reported after more than five seconds"),
    Mutant("T2", "core/store/db/engine.py", "context.is_disconnect = True", "pass",
           "tests/core/store/db/test_session.py::"
           "test_a_server_that_is_read_only_for_a_while_is_unavailable",
           "after a failover, every write is an internal error until a restart"),
    Mutant("K8", "worker/checkpoints.py", "/{secrets.token_hex(4)}", "",
           "tests/worker/test_checkpoints.py::"
           "test_a_lost_lease_leaves_the_checkpoint_of_the_next_attempt",
           "a worker without a lease deletes the checkpoint of its successor"),
    Mutant("U2", "core/store/storage/installation.py", "if owns_files and not", "if False and not",
           f"{TESTS}/store/storage/test_installation.py::"
           "test_a_lost_mount_is_unavailable_until_it_is_back",
           "uploads go to an empty mount point, and all models are missing"),
    Mutant("H3", "worker/lease.py", "if cancel is None:\n                self.lost.set()",
           "if cancel is None:\n                pass",
           f"{LEASE}::test_a_heartbeat_learns_of_a_cancellation_and_of_another_lease",
           "a worker goes on with a job that another one runs"),
    Mutant("H4", "core/store/jobs/fair_queue.py", "max(1, alive - settings.reserved_workers)",
           "max(0, alive - settings.reserved_workers)",
           f"{TESTS}/store/jobs/test_workers.py::test_a_worker_stays_free_once_two_owners_are_active",
           "with as many reserved workers as there are, no owner has a limit"),
    Mutant("M1", "core/store/jobs/file_transport.py", "not state.reserved_requests and super()", "super()",
           f"{TESTS}/store/jobs/test_queue.py::test_a_busy_worker_leaves_messages_to_an_idle_one",
           "a job waits for a busy worker while another one is idle"),
    Mutant("M2", "core/store/jobs/file_transport.py", "def _get(", "def _read(",
           f"{TESTS}/store/jobs/test_queue.py::"
           "test_each_message_has_one_reader_and_never_leaves_the_queues_folder",
           "two workers copy the same message to a temporary folder on another disk"),
    Mutant("W2", f"{CLIP}/weights/files.py", "[*tensors.values(), *([] if features is None else [features])]",
           "[*tensors.values()]", f"{TESTS}/clip/weights/test_files.py::test_other_tensors_are_refused",
           "a support set with NaN is served"),
    Mutant("F2", f"{CLIP}/inference/calibration.py", "ranks = np.ceil(", "ranks = np.floor(",
           f"{TESTS}/clip/inference/test_calibration.py::test_stored_scores_shrink_no_quantile",
           "prediction sets miss their coverage"),
    Mutant("F3", f"{SERVING}/calibrated.py", " and calibration.scoring_version == SCORING_VERSION", "",
           f"{TESTS}/serving/test_calibrated.py::test_a_calibration_of_other_scores_is_not_applied",
           "the calibration of other scores is applied"),
    Mutant("F4", f"{SERVING}/calibrated.py", "temperature * scores.scores).softmax",
           "temperature * scores.similarities).softmax",
           f"{TESTS}/serving/test_calibrated.py::test_the_probabilities_are_those_at_the_temperature",
           "calibrated probabilities leave out the offsets"),
    Mutant("F5", f"{SERVING}/calibrated.py", "(features, scores.scores,", "(features, scores.similarities,",
           f"{TESTS}/serving/test_calibrated.py::"
           "test_an_image_like_none_of_the_trained_images_is_rejected",
           "images of other classes are accepted"),
    Mutant("F6", f"{SERVING}/calibrated.py", "scores.scores.topk", "scores.similarities.topk",
           f"{TESTS}/serving/test_calibrated.py::test_the_most_likely_classes_come_first_with_their_cosines",
           "the first class is not the most likely one"),
    Mutant("R1", RULE, "dict(zip(present, moves, strict=True))", "dict(enumerate(moves))", CLOSED,
           "classes move towards the images of others, if one has no shot"),
    Mutant("R2", RULE, "rows = [place[c] for c in own]", "rows = own", CLOSED,
           "classes have the discriminants of others, if one has no shot"),
    Mutant("R3", RULE, "min(1.0, balance / NEW_CLASS_BALANCE)", "balance / NEW_CLASS_BALANCE", CLOSED,
           "at a higher balance a class is its images, and its name counts for nothing"),
    Mutant("R4", RULE, "len(labels) / len(place)", "len(labels) // len(place)", CLOSED,
           "discriminants have a wrong weight"),
    Mutant("R5", RULE, "among - among.amax(dim=1, keepdim=True) + best",
           "among - among.amin(dim=1, keepdim=True) + best",
           f"{TESTS}/clip/inference/test_request_rule.py::"
           "test_a_mixed_request_decides_trained_or_new_by_text_and_offsets",
           "images of new classes are predicted as trained ones"),
    Mutant("R6", RULE, "deviation > 1e-4", "deviation > 1e-1", CLOSED, "many shots have no discriminants"),
    Mutant("D1", f"{CLIP}/inference/discriminants.py", "if float(variance) < 1e-12:",
           "if float(variance) < 1e-4:",
           f"{TESTS}/clip/inference/test_discriminants.py::"
           "test_small_differences_between_images_count_like_large_ones",
           "shots that are similar have no discriminants"),
    Mutant("I1", PREVIEW, "among_trained(text_weights, ", "among_trained(weights, ", PREVIEWED,
           "the preview weighs the discriminants wrongly"),
    Mutant("I2", PREVIEW, "self._discriminants, classes, balance)",
           "self._discriminants, classes, NEW_CLASS_BALANCE)", PREVIEWED,
           "the preview ignores the balance of the request among trained classes"),
    Mutant("I3", PREVIEW, "kind = kind or kind_of(classes)", "kind = kind_of(classes)",
           f"{TESTS}/clip/inference/test_prototypes.py::test_a_new_class_is_its_prompts",
           "the preview ignores the rule of the request"),
    Mutant("I4", f"{SERVING}/predictor.py", "model.handle.key, model.name, request",
           'model.handle.key, "", request', TRAINED_ONES,
           "the stock model answers with the trained classes of a job"),
    Mutant("I5", f"{SERVING}/predictor.py",
           "classifier.names.classes, request.new_class_balance, request.rule",
           "classifier.names.classes",
           f"{TESTS}/serving/test_previews.py::test_the_preview_equals_the_plain_reference",
           "the preview ignores the balance and the rule of the request"),
    Mutant("I6", f"{SERVING}/previews.py", 'if count["images"]]', "if True]", TRAINED_ONES,
           "a class of the test images counts as trained"),
    Mutant("G1", f"{CLIP}/training/trainer.py", "return torch.cat(parts)",
           "return torch.cat([*(part.detach() for part in parts[:-1]), parts[-1]])",
           f"{TESTS}/clip/training/test_trainer.py::test_micro_batches_give_the_same_gradients",
           "with little memory a model learns from a part of its images"),
    Mutant("S1", SUPPORT, "max(MAX_SUPPORT_SHOTS, classes)", "MAX_SUPPORT_SHOTS",
           f"{PIPELINE}::test_every_class_has_its_share_of_the_support_set",
           "of more than 256 classes some have no shot"),
    Mutant("S2", SUPPORT, "[labels[i] for i in chosen]", "labels[: len(chosen)]", SAMPLED,
           "of more than 256 images some have the class of others"),
    Mutant("S3", SUPPORT, "turns.append((seen[label], i))", "turns.append((0, i))",
           f"{PIPELINE}::test_every_class_has_its_share_of_the_support_set",
           "of more than 256 images the classes of the last ones have no shot"),
    Mutant("S5", f"{CLIP}/pipeline.py", "[sources[i] for i in support]", "sources[: len(support)]", SAMPLED,
           "of more than 256 images some have the features of others"),
    Mutant("N1", "core/store/jobs/transitions.py", "if job.status != before:",
           'if job.status not in {before, "failed"}:',
           f"{TESTS}/store/jobs/test_counters.py::test_the_end_of_an_attempt_is_counted",
           "a failed job counts as running for ever, until its owner may run no other"),
    Mutant("N2", "core/store/jobs/counters.py", "after in {None, CANCELLED}", "after in {None}",
           f"{TESTS}/store/jobs/test_counters.py::test_an_owner_waits_since_its_oldest_queued_job",
           "an owner that cancels jobs starts before others that wait for longer"),
    Mutant("F7", f"{CLIP}/inference/calibration.py", "fit_temperature(logit_scale * scores, truth)",
           "fit_temperature(scores, truth)",
           f"{TESTS}/clip/inference/test_calibration.py::test_scores_in_units_of_the_cosine_are_scaled_first",
           "calibrated probabilities are far too certain"),
    Mutant("V4", f"{CLIP}/evaluation/cross_validation.py", "if i not in out]", "if i in out]",
           f"{FOLDS}::test_a_fold_model_predicts_only_images_that_it_was_not_trained_on",
           "cross-validation measures images that the fold model was trained on"),
    Mutant("V5", f"{CLIP}/evaluation/cross_validation.py",
           "count_steps(images, config) / count_steps(kept, shorter)", "1.0",
           f"{FOLDS}::test_a_fold_model_moves_as_far_as_the_model", "fold models learn less than the model"),
    Mutant("V6", f"{CLIP}/evaluation/predictions.py", "pixels[(-seen) % every :: every]", "pixels[::every]",
           f"{TESTS}/clip/evaluation/test_predictions.py::test_every_third_image_is_on_the_curve",
           "the curve has the labels of other images"),
    Mutant("S4", "core/store/jobs/leases.py", "started_at=func.coalesce(Job.started_at, at)", "started_at=at",
           f"{TESTS}/store/jobs/test_leases.py::test_a_second_attempt_keeps_the_start_of_the_first",
           "the duration of a job leaves out its earlier attempts"),
    Mutant("A3", "api/middleware/auth.py", ', "Connection": "close"}', "}",
           "tests/api/middleware/test_auth.py::test_a_request_without_a_key_is_refused_before_the_body_is_read",
           "the body of a refused request is read as the next request"),
    Mutant("Z2", "api/archives/members.py", "if size > MAX_DIRECTORY_BYTES:", "if False:",
           "tests/api/archives/test_read.py::test_a_directory_of_any_size_is_not_read",
           "an archive fills the memory"),
    Mutant("Y2", "benchmarks/methods/clip_lora.py", "/ math.sqrt(settings.rank)", "/ settings.rank",
           "tests/benchmarks/methods/test_clip_lora.py::test_the_addition_is_scaled_by_the_root_of_the_rank",
           "CLIP-LoRA learns too slowly"),
    Mutant("Y3", "benchmarks/methods/tip_adapter.py", "lr=settings.learning_rate, eps", "lr=0.0, eps",
           "tests/benchmarks/methods/test_tip_adapter.py::test_the_keys_are_trained",
           "Tip-Adapter-F is not trained"),
    Mutant("Y5", "benchmarks/accuracy/tables.py", 'else f"{value:.3f}"', 'else "0.999"',
           "tests/benchmarks/accuracy/test_report.py", "the results page has wrong figures"),
    Mutant("P1", "benchmarks/methods/clip_cite_paper.py", "SCL_WEIGHT = 1.4", "SCL_WEIGHT = 0.7",
           f"{PAPER}::test_weight_1_4_is_the_printed_sum_of_both_directions",
           "the paper's recipe is not the paper's"),
    Mutant("P2", "benchmarks/methods/clip_cite_paper.py", "labels[:, None] != labels[None, :]",
           "~torch.eye(len(labels), dtype=torch.bool)", f"{PAPER}::test_as_printed_equals_the_plain_loops",
           "equation 4 is not as printed"),
    Mutant("O1", "worker/dispatcher/garbage.py", "guard=self._guard,", "guard=nullcontext,",
           f"{RETENTION}::test_a_failing_storage_delays_no_other_kind",
           "old audit entries stay while the storage fails"),
    Mutant("O2", "core/store/retention.py", "if session.get(Deletion, prefix) is None:", "if False:",
           f"{RETENTION}::test_a_killed_deletion_of_images_is_finished",
           "users' images stay for ever after a kill"),
    Mutant("O3", "core/scratch.py", "elif path.name != LOCK:", "else:",
           f"{TESTS}/test_scratch.py::"
           "test_a_process_that_is_killed_while_it_removes_its_folder_leaves_the_lock",
           "images of requests stay after a kill, until the next start more than an hour later"),
    Mutant("O4", "core/store/backup/restore.py", "LOCAL idle_in_transaction_session", "LOCAL lock",
           f"{TESTS}/store/backup/test_backup.py::"
           "test_a_restoration_may_be_idle_while_it_copies_the_file_of_a_table",
           "a large backup can't be restored into PostgreSQL"),
    Mutant("O5", "core/store/backup/snapshots.py", "if not to_read:", "if True:",
           f"{TESTS}/store/backup/test_backup.py::test_a_backup_on_a_read_only_mount_is_restored",
           "a backup on a read-only mount can't be restored"),
    Mutant("O6", "core/store/backup/verify.py", "if table.name not in manifest.rows:", "if False:",
           f"{TESTS}/store/backup/test_backup.py::test_a_backup_of_a_version_without_a_table_is_complete",
           "a sound backup of an older version counts as damaged"),
    Mutant("E1", "examples/clip_cite.py", ".fill_diagonal_(False)", "",
           "tests/benchmarks/training/test_train_speed.py::"
           "test_the_script_reaches_the_same_weights_from_the_same_crops",
           "the reference script computes another method"),
    Mutant("L1", "clipcite/datasets/rows.py", '"" if word else "train"', '"train"',
           f"{DATASETS}::test_only_known_splits_are_read", "images of an unknown split are trained on"),
    Mutant("L2", "clipcite/datasets/file_finder.py", "if uses[path] == 1", "if uses[path]",
           f"{DATASETS}::test_a_file_in_another_folder_is_shown", "an image has the label of another one"),
    Mutant("L4", "clipcite/datasets/image.py", "yield from _file_chunks(path)", "raise",
           "tests/clipcite/datasets/test_image.py::test_heic_is_sent_as_an_upright_jpeg",
           "one damaged image ends the upload of all"),
    Mutant("L5", "clipcite/cli/jobs.py", "if not id:", "if False:",
           "tests/clipcite/cli/test_commands.py::test_an_empty_id_selects_no_job",
           "an unset shell variable deletes the only job"),
    Mutant("E2", "examples/without_the_service.py", "ImageOps.exif_transpose(Image.open(path))",
           "Image.open(path)",
           "tests/examples/test_examples.py::test_a_model_gets_images_upright",
           "photos of a phone are classified on their side"),
]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", choices=[m.id for m in MUTANTS], help="ids of the faults to plant"
    )
    options = parser.parse_args(arguments)
    chosen = [m for m in MUTANTS if not options.only or m.id in options.only]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        _copy_tree(copy)
        sound: dict[str, bool] = {}
        survivors = 0
        for mutant in chosen:
            if mutant.test not in sound:
                sound[mutant.test] = _run(mutant.test, copy) == 0
            outcome = plant(mutant, copy) if sound[mutant.test] else "the test fails without the fault"
            survivors += outcome != "killed"
            print(f"{mutant.id}: {outcome}. {mutant.reason}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} killed")
    return int(survivors > 0)


def plant(mutant: Mutant, tree: Path) -> str:
    """Run the test with the fault in the tree, and return the outcome."""
    path = tree / mutant.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        return "stale"
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        status = _run(mutant.test, tree)
    finally:
        path.write_text(text, encoding="utf-8")
    return {0: "survived", 1: "killed", TIMED_OUT: "timed out"}.get(status, f"error, status {status}")


def _copy_tree(folder: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def _run(test: str, tree: Path) -> int:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "", test]
    try:
        done = subprocess.run(command, cwd=tree, capture_output=True, timeout=MAX_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return TIMED_OUT
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
