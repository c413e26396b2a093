"""What goes wrong with tasks and data: one sentence, and no number that is silently wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import raynas
from raynas.cli import main
from raynas.core.train_settings import TrainSettings
from raynas.data.tensor_data import TensorData
from raynas.nn.modelspace import ModelSpace
from raynas.supernet.network_training import NetworkTraining
from tests.inline import INLINE
from tests.tasknets import CASES, VOCABULARY, OneNumber, Rows, Tokens, classified, numbered

X = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
Y = X[:, 0] - X[:, 1]


def searched(model: Any, data: Any, out: Path, **given: Any) -> raynas.Result:
    defaults: dict[str, Any] = {"algo": "random", "trials": 1, "epochs": 1, "ray": INLINE}
    supernet = None if "evaluator" in given else {"batch_size": 8}
    return raynas.search(model, data=data, out=str(out), supernet=supernet, **{**defaults, **given})


@pytest.mark.parametrize("accumulate", [1, 2, 3, 5, 8])
def test_batches_that_are_left_over_are_a_step_too(accumulate: int) -> None:
    """Of five batches; without momentum a step is the sum of the gradients over the number."""
    net = nn.Linear(5, 1).double()
    with torch.no_grad():
        net.weight.zero_()
        net.bias.zero_()
    data = TensorData((TensorDataset(X.double(), Y.double()),) * 2, batch_size=8)
    data = data.learning(raynas.tasks.TASKS["regression"]())  # type: ignore[assignment]
    settings = TrainSettings(
        epochs=1, lr=1e-9, momentum=0.0, weight_decay=0.0, clip=None, schedule="constant"
    ).model_copy(update={"accumulate": accumulate})
    NetworkTraining(net, data, settings).run_epoch()
    gradient = -2 * (Y.double()[:, None] * X.double()).reshape(5, 8, 5).mean(1).sum(0) / accumulate
    torch.testing.assert_close(net.weight.detach()[0] / -1e-9, gradient, rtol=1e-6, atol=1e-9)


def write_grades(path: Path) -> str:
    frame = pd.DataFrame({"a": range(30), "b": [i % 7 for i in range(30)]})
    frame["price"] = [(1, 10, 1000)[i % 3] for i in range(30)]
    frame.to_csv(path, index=False)
    return f"tabular:{path}"


def test_a_regression_learns_the_numbers_of_a_table(tmp_path: Path) -> None:
    name = write_grades(tmp_path / "grades.csv")
    run = searched(
        "mlp",
        name,
        tmp_path / "run",
        task="regression",
        data_options={"target": "price"},
    )
    assert run.trials["mse"].iloc[0] > 1e4, "prices, and no numbers of classes"
    assert run.config.task is not None
    again = raynas.load(str(tmp_path / "run"))
    assert again.rescore(1)["valid_mse"].iloc[0] > 1e4
    with pytest.raises(ValueError, match="kind is 'class', and a regression learns numbers"):
        searched(
            "mlp",
            name,
            tmp_path / "other",
            task="regression",
            data_options={"target": "price", "kind": "class"},
        )


def test_all_that_follows_goes_by_the_objective_of_the_search(tmp_path: Path) -> None:
    data = (classified(48, 0), classified(48, 1))
    run = searched(Rows, data, tmp_path, objectives={"loss": "min"}, epochs=2, trials=2)
    assert run.config.task_metric == "loss"
    assert "valid_loss" in run.history
    trained = raynas.retrain(run, epochs=6, options={"lr": 0.5}, ray=INLINE)
    assert trained.best_epoch == int(trained.history["valid_loss"].argmin())
    verified = run.verify(1, 1, options={"epochs": 1}, ray=INLINE)
    assert verified.metric == "loss"
    assert "random less best" in str(verified)


@pytest.mark.parametrize(
    "options",
    [{"optimizer": "adamw"}, {"optimizer": "rmsprop"}, {"decay_norms": False}, {"accumulate": 2}],
    ids=str,
)
def test_second_order_is_of_sgd(options: dict[str, Any]) -> None:
    given = {"unrolled": True, "batch_size": 8, **options}
    with pytest.raises(ValueError, match="unrolled takes a virtual step of SGD"):
        raynas.search(
            Rows, "darts", data=CASES["classification"].datasets, options=given, ray=INLINE
        )


def test_a_verification_takes_a_loss_and_metrics(tmp_path: Path) -> None:
    data = (numbered(48, 0), numbered(48, 1))
    run = searched(OneNumber, data, tmp_path, task="regression", trials=2)

    def bias(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).mean().abs()

    task = ("regression", {"objective": "bias:min"})
    with pytest.raises(ValueError, match="bias"):
        run.verify(1, 1, task=task, options={"epochs": 1}, ray=INLINE)
    verified = run.verify(
        1, 1, loss=nn.L1Loss(), metrics={"bias": bias}, options={"epochs": 1}, ray=INLINE
    )
    assert verified.metric == "r2"


def test_an_architecture_is_retrained_for_a_task_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_grades(tmp_path / "grades.csv")
    run = searched(
        "mlp", data, tmp_path / "run", task="regression", data_options={"target": "price"}
    )
    run.export(tmp_path / "best.json")
    asked = ["retrain", str(tmp_path / "best.json"), "--space", "mlp", "--data", data]
    asked += ["--data-option", "target=price", "--task", "regression", "--task-option", "loss=mae"]
    asked += ["--epochs", "1", "--out", str(tmp_path / "trained"), "--ray-option", "inline=true"]
    assert main(asked) == 0, capsys.readouterr().err
    assert "r2" in capsys.readouterr().out


class Labels(torch.utils.data.Dataset[Any]):
    """Items whose tenth has a class that no model knows."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        return X[at], 9 if at == 10 else at % 3


def test_a_streamed_label_out_of_range_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"targets go from 0 to 9, of the task 'classification'"):
        searched(
            Rows,
            (Labels(), classified(16, 1)),
            tmp_path,
            data_options={"hold": "stream", "loader_workers": 0, "num_classes": 3},
        )


def test_a_token_beyond_the_vocabulary_is_named(tmp_path: Path) -> None:
    ids = torch.arange(40 * 6).reshape(40, 6) % VOCABULARY
    beyond = ids.clone()
    beyond[7, 2] = VOCABULARY
    data = (TensorDataset(beyond, ids), TensorDataset(ids, ids))
    with pytest.raises(ValueError, match=rf"inputs go from 0 to {VOCABULARY}, targets go from 0"):
        searched(Tokens, data, tmp_path, task="language_modeling")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_targets_that_are_no_numbers_are_told(bad: float, tmp_path: Path) -> None:
    y = Y.clone()
    y[3] = bad
    data = (TensorDataset(X, Y), TensorDataset(X, y))
    with pytest.raises(ValueError, match=r"valid\[3\] has targets that are infinite or no"):
        searched(OneNumber, data, tmp_path, task="regression")


def test_one_example_is_too_few_to_validate_on(tmp_path: Path) -> None:
    data = (TensorDataset(X, Y), TensorDataset(X[:1], Y[:1]))
    with pytest.raises(ValueError, match="the valid split has one example, and the metrics of reg"):
        searched(OneNumber, data, tmp_path, task="regression")


@pytest.mark.parametrize("given", [{"task": "regression"}, {"loss": nn.MSELoss()}], ids=str)
def test_a_task_that_nothing_learns_is_refused(given: dict[str, Any], tmp_path: Path) -> None:
    space = raynas.ArchSpace.of(depth=[1, 2])
    for searched_space in (space, Rows):
        with pytest.raises(ValueError, match=f"{next(iter(given))} is of data, and this search"):
            raynas.search(
                searched_space,
                "random",
                evaluator=lambda _: {"accuracy": 1.0},
                out=str(tmp_path),
                **given,
            )


def test_a_loss_of_one_s_own_does_not_stretch_numbers(tmp_path: Path) -> None:
    data = (TensorDataset(X, Y), TensorDataset(X, Y))
    with pytest.raises(ValueError, match=r"outputs have shape \(2, 1\) and targets \(2,\)"):
        searched(OneNumber, data, tmp_path, loss=nn.MSELoss())
    searched(OneNumber, data, tmp_path, task="regression", loss=nn.L1Loss())


def test_what_is_asked_amiss_is_said_plainly(tmp_path: Path) -> None:
    net = ModelSpace(Rows).build({"act": "relu"})
    with pytest.raises(ValueError, match="example: expected a batch, whose tensors have"):
        raynas.cost(net, example=(torch.tensor(1.0),))
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OSError, match=r"cannot be written to \(out=\)"):
        searched(Rows, CASES["classification"].datasets, file / "run")
