"""Keys of theirs that have no meaning here, and why: each is told, none goes silently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

RAY = "Ray decides what runs where (ray:)"
FOLDER = "the run folder is out:, or --out"
SHOWN = "raynas shows and keeps this by itself"
SERIAL = "raynas searches in this process, not in one that waits for another"
ESTIMATORS = "the estimators say their own epochs"
READERS = "raynas reads data its own way"
VALIDATED = "raynas validates after every epoch"
EVERY_BEST = "the best is kept anyway"
FRESH_NORMS = "BatchNorm is computed anew for every architecture, on images of the training split"

GENERAL = {
    RAY: "backend parallel_search parallel_fully_train devices_per_trainer cluster worker timeout "
    "device_category devices env master_ip slaves message_port python_command ms_execute_mode "
    "distributed requires",
    FOLDER: "local_base_path task task_id clean_worker_dir",
    SHOWN: "logger report dft data_format calc_params_each_epoch",
}
TRAINER = {
    SERIAL: "callbacks lazy_built",
    VALIDATED: "valid_interval with_valid with_train valid_interval_steps",
    SHOWN: "metric model_statistics report_on_valid report_freq train_report_steps "
    "valid_report_steps perfs_cmp_mode call_metrics_on_train calc_params_each_epoch interval",
    EVERY_BEST: "save_steps save_best_model save_ext_model load_checkpoint checkpoint_path",
    RAY: "distributed cuda device ddp_backend",
}
ESTIMATOR = {
    EVERY_BEST: "save_arch_desc save_freq save_stage chkpt reset_training",
    SHOWN: "metrics eval_mode",
    "updates begin with the first step": "arch_update_epoch_start",
    "updates come in every epoch": "arch_update_epoch_intv",
}
ESTIMATOR_ARGS = {
    EVERY_BEST: "save_stage",
    FRESH_NORMS: "num_bn_batch clear_subnet_bn calib_batch",
    VALIDATED: "subnet_valid_freq",
    "a stage begins with its own course of the learning rate": "reset_stage_training",
    "channels are sorted wherever widths join": "stage_rerank_spatial",
    "every architecture is computed from the supernet's weights": "rebuild_subnet",
}
DATA = {
    READERS: "num_workers shuffle pin_memory drop_last transforms n_class distributed "
    "fixed_size num_parallel_batches imgs_per_gpu",
}
TOP = {
    RAY: "backend device device_ids",
    FOLDER: "name expman",
    SHOWN: "writer logging callback defaults",
    "what extra modules register is there already": "import",
}
PLACES = {
    "general": GENERAL,
    "*.trainer": TRAINER,
    "*.trainer.modnas": TOP,
    "*.trainer.modnas.estim.*": ESTIMATOR,
    "*.trainer.modnas.estim.*.args": ESTIMATOR_ARGS,
    "*.dataset.common": DATA,
    "*.dataset.train": DATA,
    "*.dataset.val": DATA,
    "*.dataset.test": DATA,
    "*.search_space.custom": {RAY: "device_ids", SERIAL: "fully_train"},
    "*.model.model_desc.custom": {RAY: "device_ids", SERIAL: "fully_train"},
    "*": {VALIDATED: "evaluator"},
    "*.pipe_step": {EVERY_BEST: "esr_models_file hps_file need_evaluate models_desc_file"},
}
MODNAS_PLACES = {
    "": TOP,
    "estim.*": ESTIMATOR,
    "estim.*.args": ESTIMATOR_ARGS,
    "data.args": DATA,
    "trainer.args": TRAINER | {SHOWN: f"{TRAINER[SHOWN]} writer expman"},
}


def without_ignored(
    tree: Mapping[str, Any], places: Mapping[str, Mapping[str, str]]
) -> tuple[dict[str, Any], list[str]]:
    """Return a file without the keys that have no meaning here, and a note on each of them.

    Args:
        tree: the file.
        places: by the pattern of a section's key path: why, and the names of keys.
    """
    notes: list[str] = []
    return _stripped(tree, "", places, notes), notes


def _stripped(
    section: Mapping[str, Any],
    path: str,
    places: Mapping[str, Mapping[str, str]],
    notes: list[str],
) -> dict[str, Any]:
    reasons = dict(_reasons(path, places))
    kept: dict[str, Any] = {}
    for key, value in section.items():
        where = f"{path}.{key}" if path else str(key)
        if key in reasons:
            notes.append(f"ignored: {where}: {reasons[key]}")
        else:
            inner = isinstance(value, Mapping)
            kept[key] = _stripped(value, where, places, notes) if inner else value
    return kept


def _reasons(path: str, places: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    depth = path.count(".") + 1 if path else 0
    for pattern, reasons in places.items():
        wanted = pattern.count(".") + 1 if pattern else 0
        if wanted == depth and fnmatchcase(path, pattern):
            for why, names in reasons.items():
                yield from ((name, why) for name in names.split())
