"""The configuration of a retraining: written to ``retrain.json``, and enough to go on with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from raynas.core.config import ComponentSpec, RayConfig, Strict, validated_json
from raynas.core.digests import sealed
from raynas.core.train_settings import TrainSettings


class InheritedFrom(Strict):
    """The supernet that weights come from.

    Attributes:
        path: of it.
        algo: that trained it; None if it does not say.
        seed: that it was built with.
    """

    path: str
    algo: ComponentSpec | None = None
    seed: int


class RetrainConfig(Strict):
    """Everything that a retraining depends on.

    Attributes:
        space: of the architecture.
        arch: the choice at every label.
        data: that it is trained on.
        task: what is learned.
        settings: of the training (``TrainSettings``); functions by their import path.
        seed: fixes the initial weights, the batches and all that is drawn.
        inherit: where the weights come from; None from scratch.
        inputs: shapes and dtypes of an example (``raynas.core.nest.signature``).
        space_digest: of choices and shapes of weights, for a space that is a user's own.
    """

    space: ComponentSpec
    arch: dict[str, Any]
    data: ComponentSpec
    task: ComponentSpec
    settings: dict[str, Any]
    seed: int = Field(default=0, ge=0, lt=2**63)
    inherit: InheritedFrom | None = None
    inputs: Any = None
    space_digest: str | None = None
    ray: RayConfig = RayConfig()
    versions: dict[str, str] = Field(default_factory=dict)

    def to_json(self) -> str:
        """Return the configuration as indented JSON."""
        return json.dumps(sealed(self.model_dump(mode="json")), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> RetrainConfig:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: it is none, in one sentence.
        """
        return validated_json(cls, text)

    @property
    def all_settings(self) -> dict[str, Any]:
        """The settings, with the defaults of those that the release of then did not have."""
        return TrainSettings().model_dump(mode="json") | self.settings

    def difference(self, other: RetrainConfig) -> str | None:
        """Return which part another one has otherwise, and how; None if it is the same training.

        Ray, and releases of packages, are no part of it.
        """
        for name in ("space", "arch", "data", "task", "seed", "inherit", "space_digest"):
            if (text := _differing(name, getattr(self, name), getattr(other, name))) is not None:
                return text
        return _differing("settings", self.all_settings, other.all_settings)


def _differing(name: str, old: Any, new: Any) -> str | None:
    """Return a few words on what differs, of mappings and components the first entry that does."""
    if isinstance(old, ComponentSpec) and isinstance(new, ComponentSpec) and old.name == new.name:
        old, new = old.options, new.options
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in (*old, *(key for key in new if key not in old)):
            if old.get(key) != new.get(key):
                return f"{name} {key} {old.get(key)!r}, not {new.get(key)!r}"
        return None
    if old == new:
        return None
    return f"{name} {_shown(old)}, not {_shown(new)}"


def _shown(value: Any) -> str:
    if isinstance(value, ComponentSpec):
        return value.name
    return value.path if isinstance(value, InheritedFrom) else repr(value)
