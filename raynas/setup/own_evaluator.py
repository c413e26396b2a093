"""How a run folder tells evaluators of a user's own apart that have the same name."""

from __future__ import annotations

import dis
import hashlib
import inspect
from collections.abc import Iterator
from functools import partial
from types import CodeType, FunctionType
from typing import Any

from raynas.core.config import ComponentSpec
from raynas.setup.objects import ARGUMENTS, KNOWN_AS, import_path, is_plain, own_factory, recorded

PATH, LAMBDA = "path", "<lambda>"


def told_apart(spec: ComponentSpec, evaluator: Any) -> ComponentSpec:
    """Return how the run folder names an evaluator, with what it was made with.

    A function is known by its name; besides, by the plain values that it closes over, by the
    arguments of a ``functools.partial``, an object by its constructor's arguments, as far as it
    keeps them as attributes of the same names, and a lambda, whose name says nothing, by its code.

    Args:
        spec: as ``evaluation_of`` names it.
        evaluator: a function or an object.
    """
    path, arguments = _made_with(evaluator)
    others = {name: value for name, value in arguments.items() if name not in spec.options}
    options = {**spec.options, PATH: path} | ({ARGUMENTS: others} if others else {})
    return spec.model_copy(update={"options": options})


def evaluator_again(spec: ComponentSpec) -> Any:
    """Return the evaluator that a run folder names.

    Raises:
        LookupError: it cannot be imported here, or an argument of it was not plain.
    """
    options = dict(spec.options)
    path, arguments = str(options.pop(PATH)), options.pop(ARGUMENTS, {})
    given = {**options, **arguments}
    own = own_factory(ComponentSpec(name=path, options={ARGUMENTS: given} if given else {}))
    if not inspect.isclass(own.func if isinstance(own, partial) else own):
        return own
    try:
        return own()
    except TypeError as error:
        raise LookupError(f"{path} cannot be made again: {error}") from error


def _made_with(evaluator: Any) -> tuple[str, dict[str, Any]]:
    """Return the path of an evaluator, and what it was made with."""
    if isinstance(evaluator, partial):
        path, inner = _made_with(evaluator.func)
        given = {str(at): recorded(value) for at, value in enumerate(evaluator.args)}
        return path, {**inner, **given, **{k: recorded(v) for k, v in evaluator.keywords.items()}}
    path = import_path(evaluator)
    if isinstance(evaluator, FunctionType):
        return path, _captured(evaluator)
    if inspect.ismethod(evaluator):
        return path, {"0": {KNOWN_AS: f"a {type(evaluator.__self__).__name__}"}}
    if inspect.isroutine(evaluator):
        return path, {}
    return path, dict(_constructed(evaluator))


def _captured(function: FunctionType) -> dict[str, Any]:
    """Return the plain values that a function reads of those around it, and a lambda's code."""
    code = function.__code__
    counted = {step.argval for step in dis.get_instructions(code) if step.opname == "STORE_DEREF"}
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    read = {name: cell for name, cell in cells if name not in counted}
    captured = {name: value for name, cell in read.items() for value in _plain_in(cell)}
    if function.__name__ != LAMBDA:
        return captured
    digest = hashlib.sha256(repr([*_instructions(code)]).encode()).hexdigest()[:16]
    return {"0": {KNOWN_AS: f"code {digest}"}} | captured


def _plain_in(cell: Any) -> Iterator[Any]:
    """Yield what a variable of the function around holds, if that is plain and cannot change."""
    try:
        value = cell.cell_contents
    except ValueError:  # nothing yet
        return
    if isinstance(value, str | int | float | bool | tuple) and is_plain(value):
        yield value


def _instructions(code: CodeType) -> Iterator[tuple[str, str]]:
    """Yield what a function does, step by step, without where its file says so."""
    for step in dis.get_instructions(code):
        if isinstance(step.argval, CodeType):
            yield from _instructions(step.argval)
        else:
            yield step.opname, repr(step.argval)


def _constructed(configured: Any) -> Iterator[tuple[str, Any]]:
    """Yield the constructor's arguments of an object, or that nothing is known of one."""
    try:
        parameters = inspect.signature(type(configured)).parameters.values()
    except ValueError:  # of a class that is not written in Python
        return
    for one in parameters:
        if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
            kept = hasattr(configured, one.name)
            lost = {KNOWN_AS: "no attribute of its name"}
            yield one.name, recorded(getattr(configured, one.name)) if kept else lost
