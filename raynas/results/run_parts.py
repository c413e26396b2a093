"""Space, data, task and models of a run, made again from its folder and what a user gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from raynas.core.config import SearchConfig
from raynas.core.feasible import Violation
from raynas.core.model_names import is_model_name, is_own_path
from raynas.core.recorded_objects import is_loaded, named_in
from raynas.setup.bounds import space_within
from raynas.setup.problem import Data, Space
from raynas.setup.resolve import PLAIN_SPACE, space_again
from raynas.storage.run_folder import Folder

if TYPE_CHECKING:
    from raynas.results.models import RunModels


@dataclass(frozen=True)
class RunParts:
    """What a run was of.

    Attributes:
        folder: of the run.
        config: as it says.
        own_space: the user's own, where the run's cannot be imported; else None.
        own_data: likewise.
        own_task: likewise.
    """

    folder: Folder
    config: SearchConfig
    own_space: Any = None
    own_data: Any = None
    own_task: Any = None

    @cached_property
    def rebuilt(self) -> RunModels:
        """The run's space, data and supernet, made again."""
        from raynas.results.models import rebuild

        supernet = self.config.supernet
        place = None if supernet is None else self.folder.supernet(supernet)
        own = self.own_space, self.own_data, self.own_task
        return rebuild(self.config, self.folder.path, place, *own)

    def problem(self) -> tuple[Space, Data]:
        """Return the run's space and data as a search takes them."""
        return self._space, Data(self.config.data, self.rebuilt.data)

    @property
    def _space(self) -> Space:
        models = self.rebuilt
        return Space(self.config.space, models.space.arch_space, models.space)

    def space_within(self, config: SearchConfig) -> Space:
        """Return the space within a configuration's bounds, which need not be the run's own."""
        if config.space.name == PLAIN_SPACE:
            return space_again(config.space, self.own_space, None)
        return space_within(config, self._space, self.rebuilt.data_at_hand, self.folder)

    @property
    def needs_no_import(self) -> bool:
        """Whether space and task can be made of what was given, and what this process has loaded.

        A folder may come from a stranger: to read it runs no code that it names.
        """
        config = self.config
        parts = [
            None if self.own_space is not None else config.space,
            None if self.own_task is not None else config.task,
        ]
        specs = [part.model_dump() for part in parts if part is not None]
        library = {name for name in (config.space.name,) if is_model_name(name)}
        return all(map(is_loaded, {*named_in(specs)} - library))

    def bounds(self) -> Violation | None:
        """Return the run's bounds on costs; None where the space is not at hand, or builds none."""
        if not self.needs_no_import:
            return None
        try:
            within = space_within(self.config, *self.problem(), self.folder)
        except (LookupError, TypeError):
            return None
        violation = within.arch_space.violation
        return violation if isinstance(violation, Violation) else None

    def signature(self) -> Any:
        """Return shapes and dtypes of an example's inputs.

        Raises:
            LookupError: no data and no space say them.
        """
        if self.config.inputs is not None:
            return self.config.inputs
        if self.config.input_shape is not None:
            return {"shape": self.config.input_shape, "dtype": "float32"}
        if self.config.data is None and self.rebuilt.data_at_hand is None:
            raise LookupError(
                "export: the run used no data, so that the shape of an example is not known; pass "
                "raynas.load(path, data=...), or search a raynas.ModelSpace(..., input_shape=...) "
                "or (..., example=...)"
            )
        return self.rebuilt.data.signature

    def option_names(self) -> Mapping[str, Sequence[str]]:
        """Return what candidates without names are, where the space is a user's and is at hand."""
        from raynas.results.option_names import option_names

        if self.own_space is None and not is_own_path(self.config.space.name):
            return {}
        if not self.needs_no_import:
            return {}
        try:
            return option_names(self.rebuilt.space.supernet(self.config.seed))
        except (LookupError, TypeError, ValueError, ImportError):
            return {}
