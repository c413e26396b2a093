"""A network that was trained to its end, read from its folder alone."""

from __future__ import annotations

import json
import math
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.core.arch import Arch
from raynas.core.errors import Unfinished
from raynas.core.fixed import write_arch
from raynas.core.locations import under
from raynas.core.model_names import is_own_path
from raynas.core.retrain_config import RetrainConfig
from raynas.setup.algorithms import supernet_space
from raynas.setup.resolve import space_again
from raynas.setup.same_plan import check_same_plan
from raynas.storage.local_copies import local_checkpoint, local_copy
from raynas.storage.retrain_folder import (
    BEST,
    NETWORK,
    read_metrics,
    read_retrain_config,
    retrainings,
)
from raynas.storage.run_folder import Folder
from raynas.storage.tables import read_history

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from raynas.nn.modelspace import ModelSpace


class Trained:
    """A retraining, finished or stopped.

    Args:
        path: its folder, or a ``pyarrow.fs`` URI.
        space: the user's own space, where the architecture's cannot be imported.

    Raises:
        FileNotFoundError: the folder holds no retraining.
    """

    def __init__(self, path: str, *, space: Any = None) -> None:
        self.folder = Folder(path)
        self.path = self.folder.path
        self.config: RetrainConfig = read_retrain_config(self.folder)
        self._own_space = space

    def __repr__(self) -> str:
        epochs = self.config.settings["epochs"]
        return f"Trained({self.path!r}, {len(self.history)} of {epochs} epochs)"

    @property
    def arch(self) -> Arch:
        """The architecture."""
        return Arch.from_json(json.dumps(self.config.arch))

    @property
    def finished(self) -> bool:
        """Whether the last epoch was trained and the best weights were tested."""
        return read_metrics(self.folder) is not None

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the best weights: ``valid_accuracy``, ``test_loss`` and so on by the task.

        The best epoch is that of the best objective on the validation split; the test split is
        looked at once, with its weights. Before the end there are no ``test_...``.

        Raises:
            LookupError: there is no checkpoint yet.
        """
        return {
            name: math.nan if value is None else float(value)
            for name, value in self._about.items()
            if name.startswith(("valid_", "test_"))
        }

    @property
    def best_epoch(self) -> int:
        """The epoch, from 0 as in the history, whose weights are the best.

        Raises:
            LookupError: there is no checkpoint yet.
        """
        return int(self._about["best_epoch"])

    @property
    def _about(self) -> dict[str, Any]:
        from raynas.supernet.checkpoint import load_about

        return read_metrics(self.folder) or load_about(self._checkpoint())

    @property
    def history(self) -> pd.DataFrame:
        """One row per epoch, the last where one ran twice.

        Columns are ``epoch``, ``step``, ``loss`` and ``lr`` of the training, the task's metrics on
        the validation split under their own names, their loss as ``valid_loss``, and
        ``duration_s``.
        """
        frame: pd.DataFrame = read_history(self.path).to_pandas()
        if len(frame):
            frame = frame.drop_duplicates("epoch", keep="last", ignore_index=True)
        return frame

    def model(self, *, last: bool = False) -> nn.Module:
        """Return the network as a plain module in evaluation mode, with its best weights.

        Args:
            last: instead those of the last epoch.

        Raises:
            LookupError: there is no checkpoint yet, or the space was a user's own and is not at
                hand.
        """
        from raynas.supernet.snapshot import Snapshot

        net = self._space.build(self.config.arch)
        if last or not self.finished:
            folder = self._checkpoint() / ("" if last else BEST)
        else:
            folder = local_copy(under(self.path, BEST))
        Snapshot.load(folder).write(net)
        return net.eval()

    def export(self, file: str | Path, *, last: bool = False) -> None:
        """Write the network for other programs, for batches of any size.

        Args:
            file: local path; ``.pt`` takes the weights, a state_dict, ``.pt2`` the network by
                torch.export, ``.onnx`` the network as ONNX, ``.pte`` for ExecuTorch and batches of
                one, ``.json`` the decisions.
            last: weights of the last epoch, in place of the best.

        Raises:
            ValueError: another ending.
            FileNotFoundError: there is no such folder.
        """
        from raynas.results.program_files import checked_file, write_network

        file = checked_file(file)
        if file.endswith(".json"):
            Path(file).write_text(write_arch(self.arch))
            return
        write_network(self.model(last=last), file, lambda: self.config.inputs, self.config.task)

    def save(self, folder: str | Path, *, last: bool = False, force: bool = False) -> str:
        """Write the network of a converted model into a folder, from which it loads without raynas.

        See ``raynas.nn.named.save.save_network``.

        Args:
            folder: local path; it must hold no network.
            last: weights of the last epoch, in place of the best.
            force: replace a network that is there.

        Returns:
            What loads it, as a line of Python.

        Raises:
            TypeError: the space is of no model that was converted.
            ValueError: no library builds its model by a name.
            FileExistsError: the folder holds a network.
        """
        from raynas.nn.named.save import files_there, save_network

        files_there(folder, force=force)  # said before the network is made, which takes a while
        return save_network(self.model(last=last), self._space, self.arch, folder, force=force)

    @cached_property
    def _space(self) -> ModelSpace:
        """What builds the network."""
        config, own = self.config, self._own_space
        try:
            space = space_again(config.space, own, None)
        except LookupError as error:
            if not is_own_path(config.space.name):
                raise
            raise LookupError(
                f"{config.space.name} is a user's own, which cannot be imported here; pass "
                "raynas.Trained(path, space=...)"
            ) from error
        check_same_plan(space, self.path, config.space_digest, config.versions, (self.arch,))
        assert space.model_space is not None
        model_space = space.model_space.taking(config.inputs)
        source = config.inherit
        model_space = model_space.seeded(config.seed if source is None else source.seed)
        if source is None or source.algo is None:
            return model_space
        return supernet_space(model_space, source.algo)

    def _checkpoint(self) -> Path:
        from raynas.supernet.checkpoint import checkpoint_in

        where = under(self.path, NETWORK)
        checkpoint = checkpoint_in(local_checkpoint(where)) if self.folder.has(NETWORK) else None
        if checkpoint is None:
            raise Unfinished(f"{self.path} has no checkpoint yet: go on with it (resume=True)")
        return checkpoint


def newest_trained(run: str, space: Any = None) -> Trained:
    """Return the newest finished retraining in a run's folder.

    Args:
        run: its folder.
        space: the user's own, where the run's cannot be imported.

    Raises:
        LookupError: there is none.
    """
    for path in reversed(retrainings(run)):
        trained = Trained(path, space=space)
        if trained.finished:
            return trained
    raise Unfinished(f"{run} has no finished retraining: call raynas.retrain (raynas retrain RUN)")
