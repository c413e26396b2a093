"""What a search or a training prints at its end."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console

from raynas.core.locations import parent
from raynas.report.metric_table import metric_table
from raynas.report.trial_tables import FIXED, best_trials, columns_of, number, trial_table

NARROW = "narrow, as it was scored: on a share of its channels; --whole exports it at full width"


def best_with_report(result: Any, count: int = 10) -> tuple[Any, Any, str]:
    """Return a run's best trial, its best rows and the path of the report, which is written.

    Where weights are shared, the rows are scored again, on the test split too, and the report has
    that. It is written as well where no trial was completed, which is an error.
    """
    try:
        best = result.best
        inherited = result.config.supernet is not None
        top = result.rescore(count) if inherited else result.top(count)
    finally:
        report = result.report()
    return best, top, report


def show_search(console: Console, result: Any) -> None:
    """Print what a run found and where it lies."""
    best, top, _ = best_with_report(result)
    metrics = [*result.config.objectives, *result.config.constraints, "loss", "params", "macs"]
    metrics = columns_of(metrics)
    console.print()
    console.print(
        trial_table(top, [*metrics, f"test_{result.config.task_metric}"], best_trials(len(top)))
    )
    shown = ", ".join(f"{n} {number(best.metrics[n], n)}" for n in metrics if n in best.metrics)
    if len(result.config.objectives) > 1:
        front = result.pareto()
        console.print()
        console.print(trial_table(front.head(20), metrics, f"Pareto front ({len(front)} trials)"))
    line = f"\nBest: trial {best.number} ({best.arch.key}): {shown}{_at_the_end(result)}"
    console.print(line, highlight=False, soft_wrap=True)
    if result.config.supernet is not None and _is_narrow(result.rebuilt, best.arch):
        console.print(f"  The trained network is {NARROW}.", highlight=False, soft_wrap=True)
    for label, value in best.arch.items():
        console.print(f"  {label:<24} {value}", highlight=False)
    if said := result.report_data.final_said:
        console.print(f"\n{said}", highlight=False, soft_wrap=True)
    count = len(result.trials)
    statuses = ", ".join(f"{n} {s}" for s, n in result.judged["status"].value_counts().items())
    console.print(
        f"\n{count} trial{'s' * (count != 1)} ({statuses}) in {result.path}",
        highlight=False,
        soft_wrap=True,
    )
    there = result.folder.names()
    for name, what in (
        ("trials/", "every trial, as Parquet"),
        ("final/", "the best, evaluated again, and the weights of the best"),
        ("history/", "the supernet's training, as Parquet"),
        ("supernet/", "its weights"),
        ("latency_cpu.json", "latencies, as measured"),
        ("latency_gpu.json", "latencies, as measured"),
        ("latency_table.json", "latencies, as given"),
        ("best.json", "the best architecture"),
        ("report.html", "pictures"),
        ("run.json", "the configuration"),
    ):
        if name.rstrip("/") in there:
            console.print(f"  {name:<12} {what}", highlight=False)


def _at_the_end(result: Any) -> str:
    """Return what the end of a search gave of the best, if it was evaluated again."""
    final = result.best_final
    if final is None:
        return ""
    measured = {name: value for name, value in final.means.items() if name not in FIXED}
    means = ", ".join(f"{name} {number(value, name)}" for name, value in measured.items())
    seeds = f", the mean of {final.seeds} seeds" if final.seeds > 1 else ""
    return f"; at the end {means}{seeds}" if means else ""


def _is_narrow(models: Any, arch: Any) -> bool:
    """Return whether an architecture's network is narrower than the architecture."""
    return bool(models.narrow) and not models.is_trained(arch)


def show_training(console: Console, trained: Any) -> None:
    """Print what a network that was trained to the end can do, and where it lies."""
    epochs = trained.config.settings["epochs"]
    console.print()
    console.print(metric_table(trained.metrics, f"The best of {epochs} epochs"))
    line = f"\nBest: epoch {trained.best_epoch + 1} of {epochs} of {trained.arch.key}"
    console.print(f"{line}, in {trained.path}", highlight=False, soft_wrap=True)
    for name, what in (
        ("history/", "every epoch, as Parquet"),
        ("model.pt", "the best weights, a state_dict"),
        ("best/", "the same, as safetensors"),
        ("network/", "the last checkpoint"),
        ("metrics.json", "the metrics of the best weights"),
        ("retrain.json", "the configuration"),
    ):
        console.print(f"  {name:<12} {what}", highlight=False)


def show_supernet(console: Console, path: str) -> None:
    """Print what a trained supernet can do, where it lies, and what to do with it."""
    from raynas.storage.tables import read_history

    rows = read_history(parent(path)).to_pylist()
    last = rows[-1]
    metrics = [name for name in last if name not in ("epoch", "step", "lr", "algo", "duration_s")]
    said = ", ".join(
        f"{name} {number(last[name], name)}"
        for name in metrics
        if last[name] is not None and not name.startswith("alpha.")
    )
    counts = Counter(row["algo"] for row in rows)
    by = ", ".join(f"{count} epochs by {algo}" for algo, count in counts.items())
    line = f"\nSupernet, {by}: {said}"
    console.print(line, highlight=False, soft_wrap=True)
    console.print(f"  {path}", highlight=False, soft_wrap=True)
    console.print(
        f"Search it: raynas search --supernet {path} --constraint 'macs<...'",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
