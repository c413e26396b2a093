"""Trainers as users of NNI call them: each trains, exports, and has the arguments of NNI's."""

from __future__ import annotations

import inspect
import json
import logging
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from raynas import nni, sampler
from raynas.core.archspace import ArchSpace
from raynas.core.fixed import read_arch
from raynas.data.digits import Digits
from raynas.nn import activate, freeze, space_of
from raynas.nn.mutable import mutables
from raynas.nni.callbacks import factors_of
from raynas.nni.optimizers import optimizer_options
from tests.inline import INLINE

FEW: Any = {"ray": INLINE, "seed": 3, "calibration_images": 64}
SPLITS = Digits().load()


def examples(part: tuple[Any, Any], count: int) -> TensorDataset:
    """Return some digits."""
    x, y = part
    return TensorDataset(x[:count], y[:count])


TRAIN, VALID = examples(SPLITS.train, 256), examples(SPLITS.valid, 96)


class Net(nn.Module):
    """A choice of layers, one of inputs, and BatchNorm behind them."""

    def __init__(self, *, inputs: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        candidates = {"conv3": nn.Conv2d(4, 4, 3, padding=1), "skip": nn.Identity()}
        self.first = nni.LayerChoice(candidates, key="first")
        self.second = nni.LayerChoice([nn.Tanh(), nn.ReLU()], key="second")
        self.pick = nni.InputChoice(2, key="pick") if inputs else None
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.stem(x)
        x = self.second(self.first(stem))
        if self.pick is not None:
            x = self.pick([stem, x])
        logits: Tensor = self.head(self.norm(x).mean((2, 3)))
        return logits


def top1(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    return {"acc1": float((outputs.argmax(1) == targets).float().mean()), "count": len(targets)}


def reward(outputs: Tensor, targets: Tensor) -> float:
    return top1(outputs, targets)["acc1"]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)


def holds(trainer: nni.trainer.OneShotTrainer, model: nn.Module, file: Path) -> None:
    """Check what every trainer keeps: the file, the architecture, and the weights in the model."""
    exported = trainer.export(file)
    assert json.loads(file.read_text()) == exported == trainer.export()
    fresh = type(model)(inputs=model.pick is not None)
    assert read_arch(space_of(fresh), exported) == trainer.architecture
    assert nni.apply_fixed_architecture(fresh, str(file)) == trainer.architecture
    kept = freeze(model, trainer.architecture)
    fresh.load_state_dict(kept.state_dict())
    x = VALID.tensors[0]
    assert torch.equal(fresh.eval()(x), model.eval()(x)), "the model runs what was found"


def test_darts_trains_as_nni_s_trainer_does(tmp_path: Path) -> None:
    model = Net()
    before = {name: w.clone() for name, w in model.state_dict().items()}
    epochs: list[Any] = []

    class Seen(nni.Callback):
        def on_epoch_begin(self, epoch: int) -> None:
            epochs.append(("begin", epoch, self.trainer is trainer))

        def on_epoch_end(self, epoch: int) -> None:
            epochs.append(("end", epoch, self.model is model))

    optimizer = sgd(model)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    trainer = nni.DartsTrainer(
        model,
        loss=nn.CrossEntropyLoss(),
        metrics=top1,
        optimizer=optimizer,
        num_epochs=2,
        dataset_train=TRAIN,
        dataset_valid=VALID,
        mutator=nni.DartsMutator(model),
        batch_size=32,
        workers=0,
        device="cpu",
        callbacks=[nni.LRSchedulerCallback(scheduler), Seen()],
        arc_learning_rate=0.02,
        out=str(tmp_path / "run"),
        **FEW,
    )
    with pytest.raises(LookupError, match=r"DartsTrainer: call train\(\) first"):
        trainer.export()
    assert all(torch.equal(w, before[name]) for name, w in model.state_dict().items())
    trainer.train()
    with pytest.raises(FileNotFoundError, match=f"export: there is no folder {tmp_path / 'none'}$"):
        trainer.export(tmp_path / "none" / "arch.json")
    assert trainer.result is not None
    assert epochs == [(word, epoch, True) for epoch in (0, 1) for word in ("begin", "end")]
    assert not torch.equal(model.stem.weight, before["stem.weight"])
    assert list(trainer.result.history["lr"]) == pytest.approx([0.1, 0.01])
    assert optimizer.param_groups[0]["lr"] == 0.1
    holds(trainer, model, tmp_path / "arch.json")

    config = trainer.result.config
    assert config.supernet is not None
    said = {
        "alpha_lr": 0.02,
        "unrolled": False,
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "nesterov": False,
        "batch_size": 32,
        "clip": 5.0,
    }
    assert said.items() <= config.supernet.options.items()
    assert (config.seed, config.supernet.options["epochs"]) == (3, 2)

    metrics = trainer.validate()  # on dataset_valid
    assert metrics.keys() >= {"acc1", "count", "accuracy", "loss"}
    assert metrics["count"] == len(VALID)
    assert metrics["acc1"] == pytest.approx(metrics["accuracy"])
    derived = trainer.result.trials.sort_values("trial").iloc[0]
    assert derived["count"] == 128, "the logits' half of dataset_train"


class DartsNode(nn.Module):
    """A node as NNI's example of DARTS has it, which reads two of the operations on earlier."""

    def __init__(self, node_id: str, num_prev_nodes: int, channels: int) -> None:
        super().__init__()
        self.ops = nn.ModuleList()
        keys = [f"{node_id}_p{at}" for at in range(num_prev_nodes)]
        for key in keys:
            candidates = OrderedDict(
                [
                    ("maxpool", nn.MaxPool2d(3, 1, 1)),
                    ("skipconnect", nn.Identity()),
                    ("conv", nn.Conv2d(channels, channels, 3, padding=1)),
                ]
            )
            self.ops.append(nni.LayerChoice(candidates, key=key))
        self.input_switch = nni.InputChoice(choose_from=keys, n_chosen=2, key=f"{node_id}_switch")

    def forward(self, prev_nodes: list[Tensor]) -> Any:
        out = [op(node) for op, node in zip(self.ops, prev_nodes, strict=True)]
        return self.input_switch(out)


class DartsNet(nn.Module):
    """Two cells that decide together, since their keys are the same."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(8, 10)
        self.cells = nn.ModuleList(
            nn.ModuleList(DartsNode(f"normal_n{depth}", depth, 4) for depth in (2, 3))
            for _ in range(2)
        )
        self.join = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = second = self.stem(x)
        joined = x
        for cell in self.cells:
            nodes = [first, second]
            for node in cell.children():
                nodes.append(node(nodes))
            joined = torch.cat(nodes[2:], 1)
            first, second = second, self.join(joined)
        logits: Tensor = self.head(joined.mean((2, 3)))
        return logits


def darts_of_nni(model: nn.Module, out: str) -> Any:
    given: Any = {"num_epochs": 1, "dataset_train": TRAIN, "dataset_valid": VALID, "workers": 0}
    loss = nn.CrossEntropyLoss()
    return nni.DartsTrainer(model, loss, top1, sgd(model), batch_size=64, out=out, **given, **FEW)


def proxyless_of_nni(model: nn.Module, out: str) -> Any:
    loaders = DataLoader(TRAIN, 64, shuffle=True), DataLoader(VALID, 64)
    return nni.ProxylessNasTrainer(
        model, sgd(model), None, *loaders, n_epochs=1, warmup=False, ckpt_path=out, **FEW
    )


def fbnet_of_nni(model: nn.Module, out: str) -> Any:
    return nni.FBNetTrainer(
        model,
        sgd(model),
        nn.CrossEntropyLoss(),
        torch.device("cpu"),
        None,
        nni.NASConfig(start_epoch=0, nas_lr=0.1),
        DataLoader(TRAIN, 64, shuffle=True),
        DataLoader(VALID, 64),
        n_epochs=1,
        out=out,
        **FEW,
    )


@pytest.mark.parametrize("trainer", [darts_of_nni, proxyless_of_nni, fbnet_of_nni])
def test_the_nodes_of_nni_s_darts_are_searched(
    trainer: Callable[[nn.Module, str], Any], tmp_path: Path
) -> None:
    model = DartsNet()
    run = trainer(model, str(tmp_path / "run"))
    run.train()
    arch, last = run.architecture, run.result.history.iloc[-1]
    assert arch["normal_n2_switch"] == ("normal_n2_p0", "normal_n2_p1")
    keys = [f"normal_n3_p{at}" for at in range(3)]
    options = ("maxpool", "skipconnect", "conv")
    best = {key: max(last[f"alpha.{key}.{option}"] for option in options) for key in keys}
    assert {key: last[f"alpha.normal_n3_switch.{key}"] for key in keys} == pytest.approx(best)
    assert set(arch["normal_n3_switch"]) == set(sorted(keys, key=best.__getitem__)[1:])

    exported = run.export(tmp_path / "arch.json")
    fresh = DartsNet()
    assert read_arch(space_of(fresh), exported) == arch
    assert nni.apply_fixed_architecture(fresh, str(tmp_path / "arch.json")) == arch
    fresh.load_state_dict(freeze(model, arch).state_dict())
    x = VALID.tensors[0]
    assert torch.equal(fresh.eval()(x), model.eval()(x))


def test_darts_of_nni_2_takes_one_dataset_and_a_plain_loss(tmp_path: Path) -> None:
    x, y = TRAIN.tensors
    targets = nn.functional.one_hot(y, 10).float()
    model = Net()
    trainer = nni.DartsTrainer(
        model=model,
        loss=nn.functional.mse_loss,
        metrics=lambda outputs, targets: (outputs - targets).abs().mean(),
        optimizer=torch.optim.Adam(model.parameters(), 0.01, betas=(0.8, 0.9)),
        num_epochs=1,
        dataset=TensorDataset(x[:128], targets[:128]),
        workers=0,
        out=str(tmp_path / "run"),
        **FEW,
    )
    trainer.fit()
    assert trainer.result is not None
    assert trainer.result.best.metrics.keys() >= {"metric", "loss"}
    assert trainer.validate().keys() == {"metric", "loss"}
    holds(trainer, model, tmp_path / "arch.json")


def test_second_order_of_darts(tmp_path: Path) -> None:
    model = Net()
    common: Any = {"dataset": TRAIN, "num_epochs": 1, "workers": 0, "unrolled": True, **FEW}
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    trainer = nni.DartsTrainer(
        model, nn.CrossEntropyLoss(), None, optimizer, out=str(tmp_path / "run"), **common
    )
    trainer.train()
    assert trainer.result is not None
    assert trainer.result.config.supernet is not None
    assert trainer.result.config.supernet.options["unrolled"] is True


def test_enas_is_rewarded_by_the_function_given(tmp_path: Path) -> None:
    model, calls = Net(inputs=True), list[int]()

    def prefers_the_stem(outputs: Tensor, targets: Tensor) -> float:
        calls.append(len(targets))
        return reward(outputs, targets)

    trainer = nni.EnasTrainer(
        model,
        loss=nn.CrossEntropyLoss(),
        metrics=top1,
        reward_function=prefers_the_stem,
        optimizer=sgd(model),
        num_epochs=1,
        dataset_train=TRAIN,
        dataset_valid=VALID,
        mutator=nni.EnasMutator(model, lstm_size=8, tanh_constant=1.1),
        batch_size=16,
        workers=0,
        child_steps=20,
        mutator_steps=2,
        mutator_steps_aggregate=3,
        out=str(tmp_path / "run"),
        **FEW,
    )
    trainer.train()
    assert calls.count(16) >= 6, "two steps of three draws, each on one batch"
    assert trainer.result is not None
    row = trainer.result.history.iloc[-1]
    assert 0 <= row["reward"] <= 1
    assert trainer.result.config.supernet is not None
    said = {"hidden": 8, "tanh_constant": 1.1, "samples": 3, "controller_steps": 2}
    assert said.items() <= trainer.result.config.supernet.options.items()
    holds(trainer, model, tmp_path / "arch.json")
    assert trainer.validate()["count"] == len(VALID)


def test_proxyless_warms_up_writes_its_file_and_goes_on(tmp_path: Path) -> None:
    model = Net()
    given: Any = {
        "train_loader": DataLoader(TRAIN, 32, shuffle=True),
        "valid_loader": DataLoader(VALID, 32),
        "warmup_epochs": 1,
        "arch_init_type": "uniform",
        "ckpt_path": tmp_path / "ckpt",
        "arch_path": tmp_path / "arch.json",
        **FEW,
    }
    trainer = nni.ProxylessNasTrainer(model, sgd(model), None, n_epochs=1, **given)
    trainer.train()
    assert trainer.result is not None
    holds(trainer, model, tmp_path / "other.json")
    assert (tmp_path / "arch.json").read_text() == (tmp_path / "other.json").read_text()
    history = trainer.result.history
    assert len(history) == 2
    assert trainer.result.path == str(tmp_path / "ckpt")
    again = nni.ProxylessNasTrainer(model, sgd(model), None, n_epochs=1, **given)
    with pytest.raises(FileExistsError):
        again.train()
    longer = nni.ProxylessNasTrainer(model, sgd(model), None, n_epochs=1, load_ckpt=True, **given)
    longer.train()
    assert longer.export() == trainer.export()


def test_the_learning_rate_of_proxyless_falls_twice() -> None:
    schedule = nni.proxyless.WarmupThenCosine(25 / 145, 2.0)
    rates = [0.025 * schedule(step, 145) for step in range(145)]
    assert rates[0] == 0.05
    assert rates[25] == 0.025
    assert rates[24] < 0.001
    assert rates[144] < 0.0001
    assert nni.proxyless.WarmupThenCosine(0.0, 2.0)(0, 10) == 1.0


def test_proxyless_of_nni_2(tmp_path: Path) -> None:
    model = Net()
    trainer = nni.ProxylessTrainer(
        model,
        nn.CrossEntropyLoss(),
        top1,
        sgd(model),
        1,
        TRAIN,
        workers=0,
        grad_reg_loss_type="add#linear",
        grad_reg_loss_params={"lambda": 0.2},
        applied_hardware="cpu",
        ref_latency=1.0,
        out=str(tmp_path / "run"),
        **FEW,
    )
    trainer.fit()
    assert trainer.result is not None
    assert "expected_latency_ms" in trainer.result.history
    holds(trainer, model, tmp_path / "arch.json")


def test_fbnet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = Net()
    trainer = nni.FBNetTrainer(
        model,
        sgd(model),
        nn.CrossEntropyLoss(),
        torch.device("cpu"),
        None,
        nni.NASConfig(start_epoch=1, nas_lr=0.1),
        DataLoader(TRAIN, 32, shuffle=True),
        DataLoader(VALID, 32),
        n_epochs=2,
        arch_path=tmp_path / "arch.json",
        logger=logging.getLogger("fbnet"),
        out=str(tmp_path / "run"),
        **FEW,
    )
    with caplog.at_level(logging.INFO):
        trainer.train()
    assert [record.message for record in caplog.records if record.name == "fbnet"] == [
        "epoch 0 is over",
        "epoch 1 is over",
    ]
    assert trainer.result is not None
    assert "expected_macs" in trainer.result.history
    assert json.loads((tmp_path / "arch.json").read_text()) == trainer.export()


def test_an_evolution_of_a_small_population_breeds_from_all_of_it() -> None:
    evolution = nni.SPOSEvolution(max_epochs=2, num_population=4)
    assert (evolution.trials, evolution.options["selected"]) == (8, 4)
    options: dict[str, Any] = dict(evolution.options)
    sampler("evolution", ArchSpace.of(a=(1, 2)), **options).ask()


@pytest.mark.parametrize("kind", [nni.SPOSSupernetTrainer, nni.SinglePathTrainer])
def test_single_path_one_shot_is_trained_then_searched(kind: Any, tmp_path: Path) -> None:
    model = Net(inputs=True)
    trainer = kind(
        model,
        nn.CrossEntropyLoss(),
        top1,
        sgd(model),
        1,
        DataLoader(TRAIN, 32, shuffle=True) if kind is nni.SPOSSupernetTrainer else TRAIN,
        VALID,
        workers=0,
        out=str(tmp_path / "run"),
        **FEW,
    )
    evolution = nni.SPOSEvolution(max_epochs=2, num_population=4, num_select=2)
    with pytest.raises(LookupError, match=r"call train\(\) first"):
        evolution.search(trainer)
    trainer.train()
    with pytest.raises(LookupError, match=r"SPOSEvolution\(\).search\(trainer\)"):
        trainer.export()
    result = evolution.search(trainer, out=str(tmp_path / "search"))
    assert len(result.trials) == 8
    assert trainer.architecture == result.best.arch
    assert result.config.algo.options == {"population": 4, "selected": 2, "mutation_prob": 0.1}
    holds(trainer, model, tmp_path / "arch.json")


DEFAULTS: dict[str, dict[str, Any]] = {
    "DartsTrainer": {
        "mutator": None,
        "batch_size": 64,
        "workers": 4,
        "device": None,
        "log_frequency": None,
        "callbacks": None,
        "arc_learning_rate": 3e-4,
        "unrolled": False,
    },
    "EnasTrainer": {
        "mutator": None,
        "batch_size": 64,
        "workers": 4,
        "device": None,
        "log_frequency": None,
        "callbacks": None,
        "entropy_weight": 1e-4,
        "skip_weight": 0.8,
        "baseline_decay": 0.999,
        "child_steps": 500,
        "mutator_lr": 3.5e-4,
        "mutator_steps_aggregate": 20,
        "mutator_steps": 50,
        "aux_weight": 0.4,
        "test_arc_per_epoch": 1,
    },
    "ProxylessNasTrainer": {
        "label_smoothing": 0.1,
        "n_epochs": 120,
        "init_lr": 0.025,
        "binary_mode": "full_v2",
        "arch_init_type": "normal",
        "arch_init_ratio": 1e-3,
        "arch_optim_lr": 1e-3,
        "arch_weight_decay": 0,
        "grad_update_arch_param_every": 5,
        "grad_update_steps": 1,
        "warmup": True,
        "warmup_epochs": 25,
        "arch_valid_frequency": 1,
        "load_ckpt": False,
        "ckpt_path": None,
        "arch_path": None,
    },
    "SPOSSupernetTrainer": {
        "mutator": None,
        "batch_size": 64,
        "workers": 4,
        "device": None,
        "log_frequency": None,
        "callbacks": None,
    },
    "SPOSEvolution": {
        "max_epochs": 20,
        "num_select": 10,
        "num_population": 50,
        "m_prob": 0.1,
        "num_crossover": 25,
        "num_mutation": 25,
    },
    "FBNetTrainer": {"n_epochs": 120, "load_ckpt": False, "arch_path": None, "logger": None},
}
FIRST = {
    "DartsTrainer": "model loss metrics optimizer num_epochs dataset_train dataset_valid",
    "EnasTrainer": "model loss metrics reward_function optimizer num_epochs dataset_train "
    "dataset_valid",
    "ProxylessNasTrainer": "model model_optim device train_loader valid_loader",
    "SPOSSupernetTrainer": "model loss metrics optimizer num_epochs train_loader valid_loader",
    "SPOSEvolution": "",
    "FBNetTrainer": "model model_optim criterion device device_ids lookup_table train_loader "
    "valid_loader",
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_arguments_and_defaults_are_nni_s(name: str) -> None:
    parameters = inspect.signature(getattr(nni, name)).parameters.values()
    given = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [p.name for p in given] == [*FIRST[name].split(), *DEFAULTS[name]]
    assert {p.name: p.default for p in given if p.name in DEFAULTS[name]} == DEFAULTS[name]


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("DartsTrainer", "num_epoch", "num_epochs"),
        ("EnasTrainer", "reward_func", "reward_function"),
        ("ProxylessNasTrainer", "n_epoch", "n_epochs"),
        ("ProxylessTrainer", "optimiser", "optimizer"),
        ("FBNetTrainer", "criterium", "criterion"),
        ("SPOSSupernetTrainer", "calibration_image", "calibration_images"),
        ("SinglePathTrainer", "dataset_vald", "dataset_valid"),
        ("SPOSEvolution", "max_epoch", "max_epochs"),
    ],
)
def test_a_misspelt_keyword_is_named_with_the_nearest(name: str, wrong: str, right: str) -> None:
    said = f"^{name} has no argument {wrong!r}; did you mean {right!r}"
    with pytest.raises(TypeError, match=said):
        getattr(nni, name)(**{wrong: 1})


def test_a_trainer_made_of_another_hands_keywords_on() -> None:
    class Mine(nni.DartsTrainer):
        def __init__(self, *args: Any, size: int, **others: Any) -> None:
            super().__init__(*args, **others)
            self.size = size

    model = Net()
    given: Any = {"num_epochs": 1, "dataset_train": TRAIN, "seed": 1}
    assert Mine(model, nn.CrossEntropyLoss(), None, sgd(model), size=4, **given).size == 4
    with pytest.raises(TypeError, match="Mine has no argument 'sise'; did you mean 'size'"):
        Mine(model, nn.CrossEntropyLoss(), None, sgd(model), sise=4, **given)


def darts(**changes: Any) -> Any:
    model = Net()
    given: dict[str, Any] = {
        "model": model,
        "loss": nn.CrossEntropyLoss(),
        "metrics": None,
        "optimizer": sgd(model),
        "num_epochs": 1,
        "dataset_train": TRAIN,
        **changes,
    }
    return nni.DartsTrainer(**given)


@pytest.mark.parametrize("net", [Net, DartsNet])
def test_checkpoints_of_architecture_and_model(net: Any, tmp_path: Path) -> None:
    model, archs = net(), tmp_path / "deep" / "archs"
    trainer = nni.DartsTrainer(
        model,
        nn.CrossEntropyLoss(),
        None,
        sgd(model),
        2,
        TRAIN,
        workers=0,
        arc_learning_rate=0.1,
        callbacks=[nni.ArchitectureCheckpoint(str(archs)), nni.ModelCheckpoint(tmp_path / "w")],
        out=str(tmp_path / "run"),
        **FEW,
    )
    trainer.train()
    assert sorted(file.name for file in archs.iterdir()) == ["epoch_0.json", "epoch_1.json"]
    assert json.loads((archs / "epoch_1.json").read_text()) == trainer.export()
    assert nni.apply_fixed_architecture(net(), archs / "epoch_0.json")
    kept = torch.load(tmp_path / "w" / "last.pth", weights_only=True)
    assert kept.keys() == model.state_dict().keys()
    assert all(torch.equal(kept[name], w) for name, w in model.state_dict().items())


def test_checkpoints_of_enas_hold_the_most_probable_options(tmp_path: Path) -> None:
    model = Net(inputs=True)
    trainer = nni.EnasTrainer(
        model,
        nn.CrossEntropyLoss(),
        None,
        reward,
        sgd(model),
        1,
        TRAIN,
        workers=0,
        child_steps=2,
        mutator_steps=1,
        mutator_steps_aggregate=2,
        callbacks=[nni.ArchitectureCheckpoint(tmp_path / "archs")],
        out=str(tmp_path / "run"),
        **FEW,
    )
    trainer.train()
    arch = read_arch(space_of(Net(inputs=True)), tmp_path / "archs" / "epoch_0.json")
    assert trainer.result is not None
    row = trainer.result.history.iloc[-1]
    wanted = max(("conv3", "skip"), key=lambda option: row[f"alpha.first.{option}"])
    assert arch["first"] == wanted
    assert arch["pick"] == tuple(at for at in (0, 1) if row[f"alpha.pick.{at}"] > 0.5)


def test_checkpoints_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for kind in (nni.ArchitectureCheckpoint, nni.ModelCheckpoint):
        with pytest.raises(NotADirectoryError, match=f"{kind.__name__}: .*file is no folder"):
            kind(tmp_path / "file")
    model = Net()
    loss, callbacks = nn.CrossEntropyLoss(), [nni.ArchitectureCheckpoint(tmp_path / "a")]
    with pytest.raises(TypeError, match="a SPOSSupernetTrainer trains weights alone"):
        nni.SPOSSupernetTrainer(model, loss, None, sgd(model), 1, TRAIN, VALID, callbacks=callbacks)


class Batches(nni.Callback):
    def on_batch_end(self, epoch: int) -> None: ...


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mutator": object()}, "mutator: expected a raynas.nni.DartsMutator, got a object"),
        ({"callbacks": [object()]}, "callbacks: expected a raynas.nni.Callback"),
        ({"callbacks": [Batches()]}, "Batches has on_batch_end, and nothing is called for batches"),
        ({"device": "mps"}, "device: expected cpu or cuda, got mps"),
        ({"optimizer": 0.1}, "optimizer: expected a torch optimizer, got a float"),
        ({"outt": "x"}, "DartsTrainer has no argument 'outt'; did you mean 'out'"),
        ({"model": Net}, "model: expected an nn.Module with choices, got Net"),
        ({"dataset": TRAIN}, "give the training data once"),
        ({"dataset_train": iter([])}, "expected a map-style dataset with a length"),
        ({"dataset_train": VALID.tensors[0][:1]}, "1 examples are too few"),
        ({"num_epochs": "1"}, "num_epochs: expected a whole number of epochs, got '1'"),
        ({"num_epochs": 0}, "num_epochs: expected 1 epoch at least, got 0"),
        ({"loss": None}, r"loss: expected a function of \(outputs, targets\).*, got None"),
        ({"loss": nn.CrossEntropyLoss}, r"such as nn.CrossEntropyLoss\(\), got CrossEntropyLoss"),
        ({"optimizer": sgd(Net())}, "8 of its 8 parameters are not the model's; make it of"),
        ({"metrics": lambda *_: None}, "a dict of numbers, or one number; it returned a None"),
        ({"metrics": lambda *_: {"acc": "no"}}, "its entry 'acc' is a str: 'no'"),
        ({"metrics": "acc"}, "metrics: expected a function of"),
        ({"metrics": lambda o, t: o + t.nothing}, "metrics fails: AttributeError"),
    ],
)
def test_what_cannot_be_kept_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        darts(**changes)


def test_what_is_kept_otherwise_is_said() -> None:
    with pytest.warns(UserWarning, match="log_frequency=10: progress is told once an epoch"):
        darts(log_frequency=10)
    net = Net()
    with pytest.warns(UserWarning, match="arch_valid_frequency=5"):
        nni.ProxylessNasTrainer(net, sgd(net), None, TRAIN, VALID, arch_valid_frequency=5)
    with pytest.warns(UserWarning, match="num_mutation=10: every child is crossed"):
        nni.SPOSEvolution(num_mutation=10)
    with pytest.raises(ValueError, match="load_ckpt goes on with what is in ckpt_path: name it"):
        nni.ProxylessNasTrainer(net, sgd(net), None, TRAIN, VALID, load_ckpt=True)
    with pytest.raises(ValueError, match="both name the folder"):
        nni.ProxylessNasTrainer(net, sgd(net), None, TRAIN, VALID, ckpt_path="a", out="b")
    with pytest.raises(ValueError, match=r"branch_bias is 0\.25 here, got 1"):
        nni.EnasMutator(branch_bias=1)
    with pytest.raises(TypeError, match="name one in place of the function, flops_func='macs'"):
        nni.SPOSSupernetTrainingMutator(flops_func=len)
    mutator = nni.SPOSSupernetTrainingMutator(flops_func="macs", flops_lb=1.0, flops_ub=2.0)
    assert mutator.options["balance_range"] == (1.0, 2.0)


def test_an_optimizer_is_made_again_with_its_settings() -> None:
    weights = [nn.Parameter(torch.ones(2))]
    for made in (
        torch.optim.Adam(weights, 0.01, betas=(0.5, 0.9), weight_decay=0.1, amsgrad=True),
        torch.optim.RMSprop(weights, 0.02, alpha=0.5, momentum=0.3),
        torch.optim.SGD(weights, 0.1, momentum=0.9, dampening=0.1),
    ):
        options = optimizer_options(made)
        groups = [{"params": weights, "weight_decay": options["weight_decay"]}]
        again = options["optimizer"](groups, options["lr"])
        assert type(again) is type(made)
        assert again.param_groups == made.param_groups
    plain = optimizer_options(torch.optim.SGD(weights, 0.1, momentum=0.9, nesterov=True))
    assert (plain["optimizer"], plain["momentum"], plain["nesterov"]) == ("sgd", 0.9, True)
    groups = [{"params": [nn.Parameter(torch.ones(1))], "lr": rate} for rate in (0.1, 0.2)]
    with pytest.raises(ValueError, match="its groups differ in lr"):
        optimizer_options(torch.optim.SGD(groups, 0.1))


def test_a_scheduler_s_factors_leave_it_as_it_was() -> None:
    weights = [nn.Parameter(torch.ones(2))]
    optimizer = torch.optim.SGD(weights, 0.4)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 3], gamma=0.5)
    for _ in range(2):
        assert factors_of(scheduler, 4) == [1.0, 0.5, 0.5, 0.25]
    assert (optimizer.param_groups[0]["lr"], scheduler.last_epoch) == (0.4, 0)


def test_a_model_that_was_decided_already_is_searched_afresh() -> None:
    model = Net()
    activate(model, {"first": "skip", "second": 1})
    copies = nni.problem.ModelCopies(model)
    assert len(list(mutables(copies()))) == 2
    assert copies() is not copies()
