"""What measures: the evaluator protocol, and the check of what an evaluator returns."""

from __future__ import annotations

import math
import os
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from raynas.core.arch import Arch
from raynas.core.locations import masked
from raynas.core.plain_text import (
    LONGEST_SENTENCE,
    LONGEST_TEXT,
    LONGEST_TRACEBACK,
    is_plain,
    plain_text,
)
from raynas.core.registry import Registry
from raynas.core.trial import Trial

_COLUMNS = frozenset(Trial.__dataclass_fields__) - {"traceback"}
RESERVED = _COLUMNS | {"trial", "arch_key", "duplicates", "final_objective", "final_seeds"}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much an evaluation may spend: training epochs for one architecture (0 = none)."""

    epochs: int = 0


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one evaluation gave: metrics, or the text of what went wrong.

    Attributes:
        metrics: numbers by name, all finite.
        text_metrics: text by name.
        unusable: what else was returned, by name: a sentence that says why it is neither.
        error: why there are none, or why they do not count.
        traceback: of what the evaluation raised, over several lines.
        started_s: seconds since 1970.
        duration_s: of the evaluation.
        epochs: that the architecture was trained for; None stands for the whole budget.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    text_metrics: Mapping[str, str] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    traceback: str | None = field(default=None, repr=False, compare=False)
    started_s: float = 0.0
    duration_s: float = 0.0
    epochs: int | None = None


@dataclass(frozen=True, kw_only=True)
class SuccessiveHalving:
    """When a training that does badly is stopped: asynchronous successive halving.

    Li et al., 2020, arXiv:1810.05934 (ASHA), whose reduction factor 4 is the default.

    Attributes:
        grace_epochs: after which a training is first compared with others of as many epochs.
        reduction_factor: of those compared, one in so many goes on; the next comparison comes
            after this times as many epochs.
    """

    grace_epochs: int = 1
    reduction_factor: float = 4.0


class Evaluator:
    """Measures architectures in one process.

    What goes wrong with one architecture never touches the others of its batch.
    """

    def __call__(self, archs: Sequence[Arch], budget: Budget, seed: int) -> list[Measurement]:
        """Return one measurement per architecture, in the same order."""
        raise TypeError(f"{type(self).__name__} must define __call__(archs, budget, seed)")

    def by_epoch(self, arch: Arch, seed: int) -> Generator[Measurement, None, None]:
        """Yield a measurement after every epoch of a training; the only one without trainings."""
        yield from self([arch], Budget(), seed)

    def ready(self) -> None:
        """Return when an evaluation can begin; what it waits for counts for no architecture."""

    def close(self) -> None:
        """End what was started for the evaluations."""


EVALUATORS: Registry[Callable[..., Any]] = Registry(
    "evaluator", "raynas.evaluators", group="raynas.evaluators"
)


def measure(function: Callable[[], object], names: Sequence[str] = ()) -> Measurement:
    """Time ``function`` and turn what it returns or raises into a measurement.

    A value that is no number costs no evaluation: which ones a search cannot do without, its
    goals say (see ``Goals.checked``). An exit is a failure like any other, but for Ctrl-C; a forked
    child that comes back from the evaluation ends here.

    Args:
        function: returns a mapping from metric name to value, or a bare number if ``names`` has
            one name to give it.
        names: the metric names that a bare number may stand for.
    """
    started_s, clock, process = time.time(), time.perf_counter(), os.getpid()
    try:
        measured = sorted_out(function(), names)
    except KeyboardInterrupt:
        raise
    except BaseException as failure:
        measured = failed(failure)
    if os.getpid() != process:
        os._exit(0)
    return replace(measured, started_s=started_s, duration_s=time.perf_counter() - clock)


def sorted_out(returned: object, names: Sequence[str] = ()) -> Measurement:
    """Return what an evaluator returned: numbers, text, and what is neither.

    >>> returned = {"accuracy": 0.5, "auc": float("nan"), "weights": "s3://a", "curve": [1, 2]}
    >>> measured = sorted_out(returned)
    >>> measured.metrics, measured.text_metrics, measured.unusable["auc"]
    ({'accuracy': 0.5}, {'weights': 's3://a'}, "metric 'auc' is nan")

    Args:
        returned: a mapping from metric name to value, or a bare number.
        names: the metric names that a bare number may stand for.

    Raises:
        TypeError: neither.
    """
    metrics: dict[str, float] = {}
    texts: dict[str, str] = {}
    unusable: dict[str, str] = {}
    for name, value in _mapping(returned, names).items():
        try:
            if isinstance(value, str):
                texts[_metric_name(name)] = _text(name, value)
            else:
                metrics[_metric_name(name)] = _number(name, value)
        except (TypeError, ValueError) as error:
            key = name if isinstance(name, str) else _repr(name)
            unusable[_sentence(key)] = _sentence(str(error))
    return Measurement(metrics=metrics, text_metrics=texts, unusable=unusable)


def numbers(returned: object, names: Sequence[str] = ()) -> dict[str, float]:
    """Return metrics as floats, where all of them have to be finite numbers.

    Raises:
        TypeError: neither a mapping nor a number, or a value that is no number.
        ValueError: a metric is nan or infinite, or is named like a column of the trial table.
    """
    given = _mapping(returned, names)
    return {_metric_name(name): _number(name, value) for name, value in given.items()}


def _mapping(returned: object, names: Sequence[str]) -> Mapping[Any, object]:
    if isinstance(returned, Mapping):
        return returned
    if len(names) == 1 and _is_number(returned):
        return {names[0]: returned}
    raise TypeError(
        "the evaluator must return a dict from metric name to number"
        f"{', such as {' + repr(names[0]) + ': 0.9}' if names else ''}, got {shown(returned)}"
    )


def _is_number(value: object) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, str | bytes)


def _metric_name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise TypeError(f"a metric's name must be a non-empty string, got {shown(name)}")
    if name in RESERVED or name.startswith("choice."):
        raise ValueError(f"metric {name!r} is named like a column of the trial table; rename it")
    if not is_plain(name):
        raise ValueError(f"metric {name!r} has a name that is no text in UTF-8; rename it")
    return name


def _text(name: str, text: str) -> str:
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"metric {name!r} has {len(text)} characters, and {LONGEST_TEXT} are kept")
    return plain_text(str(text), LONGEST_TEXT)


def _number(name: str, value: object) -> float:
    if not _is_number(value):
        raise TypeError(f"metric {name!r} must be a number, got {shown(value)}")
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(f"metric {name!r} must be one number, got {shown(value)}") from error
    if not math.isfinite(number):
        raise ValueError(f"metric {name!r} is {number}")
    return number


def shown(value: object) -> str:
    """Return a value and its type, short enough for a sentence."""
    text = _repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception as failure:  # a user's own
        return f"<its repr raised {type(failure).__name__}>"


class Described(RuntimeError):
    """A failure in another process, whose message is what ``describe`` said there."""


def describe(failure: BaseException) -> str:
    """Return an exception as one line: its type, its text, and the line that raised it."""
    if isinstance(failure, Described):
        return _sentence(str(failure))
    frames = traceback.extract_tb(failure.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__]
    place = f" (in {own[-1].name}, line {own[-1].lineno})" if own else ""
    try:
        text = _sentence(str(failure))
    except Exception as own_failure:  # a user's own
        text = f"<its text raised {type(own_failure).__name__}>"
    return f"{type(failure).__name__}: {text}{place}"


def failed(failure: BaseException) -> Measurement:
    """Return the measurement of an evaluation that raised."""
    return Measurement(error=describe(failure), traceback=_traceback(failure))


def _sentence(text: str) -> str:
    return " ".join(plain_text(masked(text), LONGEST_SENTENCE).split())


def _traceback(failure: BaseException) -> str | None:
    """Return where an exception came from, in several lines; None if from another process."""
    if isinstance(failure, Described):
        return None
    trace = "".join(traceback.format_exception(failure))
    return plain_text(masked(trace), LONGEST_TRACEBACK)
