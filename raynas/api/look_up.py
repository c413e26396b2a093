"""What is opened or made by its name: ``raynas.load``, ``raynas.space``, ``raynas.sampler``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raynas.core.archspace import ArchSpace
from raynas.core.sampler import Sampler
from raynas.results.result import Result
from raynas.setup.algorithms import resolve_sampler
from raynas.setup.resolve import build_space

if TYPE_CHECKING:
    from raynas.nn.modelspace import ModelSpace


def load(path: str, *, space: Any = None, data: Any = None, task: Any = None) -> Result:
    """Return the result of a run from its folder alone.

    Args:
        path: local folder or ``pyarrow.fs`` URI.
        space: the user's own space, where ``Result.model`` cannot import it.
        data: the user's own data, likewise.
        task: the user's own task, likewise.

    Raises:
        FileNotFoundError: the folder holds no run.
    """
    return Result(path, space=space, data=data, task=task)


def space(name: str, **options: Any) -> ModelSpace:
    """Return a registered search space, or that of a model that another library builds.

    Args:
        name: registered; ``available("spaces")`` lists them. Or a model of timm, torchvision or
            transformers: ``timm:resnet18``, ``torchvision:resnet18``, ``hf:LlamaForCausalLM``,
            ``hf:path/to/folder``; nothing is downloaded.
        options: of the space; ``describe(name)`` lists them. Spaces of images also take
            ``resolutions``, to choose from. Models take ``elastic``, what may become smaller as
            arguments of ``raynas.elastic``, ``weights``, a local file, and their own options.

    Raises:
        UnknownName: no space, or model, has this name.
        ModuleNotFoundError: the library that builds the model is not installed.
        ValueError: the space has no such option.
    """
    built: ModelSpace
    built, built.spec = build_space(name, options)
    return built


def sampler(name: str, space: ArchSpace, *, seed: int = 0, **options: Any) -> Sampler:
    """Return a registered sampler, to be asked and told without Ray.

    Args:
        name: registered; ``available("algorithms")`` lists them.
        space: of the architectures.
        seed: fixes the sampler's choices.
        options: of the algorithm.

    Raises:
        TypeError: ``space`` is no ArchSpace; a model's is its ``arch_space``.
        ValueError: a negative seed.
    """
    if not isinstance(space, ArchSpace):
        hint = "; a model's is its arch_space" if hasattr(space, "arch_space") else ""
        raise TypeError(f"space: expected an ArchSpace, got {type(space).__name__}{hint}")
    if seed < 0:
        raise ValueError(f"seed: expected at least 0, got {seed}")
    return resolve_sampler(name, space, seed, options)
