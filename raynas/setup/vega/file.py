"""Files of theirs, turned into files of ours."""

from __future__ import annotations

from pathlib import Path

from raynas.core.pipeline import pipeline_config
from raynas.setup.vega.convert import converted, is_vega
from raynas.setup.yaml_text import read_yaml_file


def convert(source: str | Path, target: str | Path | None = None, *, force: bool = False) -> str:
    """Return a file of Vega's or ModularNAS' as one of ours, and write it where that is wanted.

    Args:
        source: path of theirs.
        target: path of ours; None writes nothing.
        force: whether a file that is there is replaced.

    Raises:
        FileNotFoundError, IsADirectoryError: there is no such file.
        FileExistsError: there is a file at ``target``.
        ValueError, LookupError: it is no file of theirs, or holds what is not understood.
    """
    tree = read_yaml_file(source, "configuration file")
    if not is_vega(tree):
        raise ValueError(
            f"{source}: this is no file of Vega's (pipeline: with a section for each step) or of "
            "ModularNAS' (model, mixed_op, optim, estim)"
        )
    try:
        conversion = converted(tree, Path(source).parent)
        pipeline_config(conversion.config, sets={})
    except (ValueError, LookupError) as error:
        kind = LookupError if isinstance(error, LookupError) else ValueError
        raise kind(f"{source}: {error}") from None
    text = conversion.text(Path(source).name)
    if target is not None:
        write_new(Path(target), text, force=force)
    return text


def write_new(target: Path, text: str, *, force: bool) -> None:
    """Write a file, over another one only by force.

    Raises:
        FileExistsError: there is one.
    """
    if target.exists() and not force:
        raise FileExistsError(f"{target} is there already: choose another file, or --force")
    target.write_text(text, encoding="utf-8")
