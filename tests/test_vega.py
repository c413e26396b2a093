"""Configuration files of Vega and ModularNAS: read by their own names, run as pipelines of ours."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import Tensor, nn

import raynas
from raynas.cli import main
from raynas.core.pipeline import pipeline_config
from raynas.nn.slot import Slot
from raynas.results.result import Result
from raynas.results.trained import Trained
from raynas.setup.pipeline import read_pipeline
from raynas.setup.vega import converted, is_vega
from raynas.setup.yaml_text import LARGEST, read_yaml, read_yaml_file

FILES = Path(__file__).parent / "fixtures" / "vega"
NAMES = ("mbv2", "darts", "pxl", "ps", "modnas")
WEIGHTS = {
    "lr": 0.025,
    "momentum": 0.9,
    "weight_decay": 3e-4,
    "nesterov": False,
    "clip": None,
    "label_smoothing": 0.0,
}
RETRAIN = {
    "data": "cifar10",
    "data_options": {"root": "/data/cifar10"},
    "epochs": 1,
    "options": {**WEIGHTS, "schedule": "cosine", "batch_size": 64},
}
SIX = [["mixed_op", {"candidates": ["MB3E3", "MB3E6", "MB5E3", "MB5E6", "MB7E3", "MB7E6"]}]]
SMALL = {
    "ray.inline": True,
    "data_options.size": 8,
    "space_options.depth": 0.2,
    "retrain.data_options.size": 8,
}


def read(name: str) -> Any:
    return read_yaml_file(FILES / f"{name}.yml", "file")


def config_of(name: str) -> dict[str, Any]:
    config = converted(read(name)).config
    config.pop("smoke")
    return config


def changed(name: str, path: str, value: Any) -> Any:
    """Return a file with another value at a key path; ... takes the key away."""
    tree = copy.deepcopy(read(name))
    *parents, last = path.split(".")
    place = tree
    for key in parents:
        place = place.setdefault(key, {})
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return tree


@pytest.mark.parametrize("name", NAMES)
def test_what_a_file_comes_to_is_one_of_ours_and_runs_at_a_smoke_size(name: str) -> None:
    conversion = converted(read(name))
    text = conversion.text(f"{name}.yml")
    assert read_yaml(text) == conversion.config
    assert not is_vega(conversion.config)
    for smoke in (False, True):
        pipeline_config(read_yaml(text), smoke=smoke, sets={})
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert comments[1:] == [f"# {note}" for note in conversion.notes]
    assert any("general.backend" in note or "device_ids" in note for note in conversion.notes)


def test_darts_is_of_second_order_over_six_blocks() -> None:
    assert config_of("darts") == {
        "space": "mobilenet_v2_cifar_gpu",
        "space_options": {"num_classes": 10, "construct": SIX},
        "data": "cifar10",
        "data_options": {"root": "/data/cifar10", "valid": 25_000},
        "steps": [
            {
                "search": {
                    "algo": "DARTSOptim",
                    "epochs": 1,
                    "options": {**WEIGHTS, "batch_size": 64},
                }
            },
            {"retrain": RETRAIN},
        ],
        "descriptions": {"search": "DefaultSlotTraversalExporter"},
    }


def test_proxyless_has_its_optimizer_its_data_and_its_bounds() -> None:
    config = config_of("pxl")
    assert config["data_options"] == {"root": "/data/cifar10", "valid": 10_000}
    assert config["steps"] == [
        {
            "search": {
                "algo": "BinaryGateOptim",
                "epochs": 1,
                "options": {**WEIGHTS, "batch_size": 256},
                "constraints": ["macs<60000000", "params>100000", "params<4000000"],
            }
        },
        {"retrain": RETRAIN},
    ]
    notes = converted(read("pxl")).notes
    assert "ignored: nas.trainer.epochs: the estimators say their own epochs" in notes
    assert any("millions of multiply-accumulates" in note for note in notes)


def test_progressive_shrinking_is_what_the_example_of_ours_is() -> None:
    """But for epochs, and the bound and the weights that the example adds."""
    config = config_of("ps")
    ours = yaml.safe_load((FILES.parents[2] / "examples" / "configs" / "ps.yaml").read_text())
    assert config["space"] == ours["space"]
    assert config["space_options"] == {**ours["space_options"], "num_classes": 10}
    supernet, search, retrain = (next(iter(step.values())) for step in config["steps"])
    example = ours["steps"][0]["supernet"]
    assert supernet["algo"] == example["algo"] == "progressive_shrinking"
    stages = supernet["options"].pop("stages")
    assert stages == [{**stage, "epochs": 1} for stage in example["options"]["stages"]]
    assert supernet["options"] == {**WEIGHTS, "batch_size": 64, "use_ratio": True}
    assert search == {"algo": "EvolutionOptim", "trials": 3}
    assert retrain == RETRAIN
    told = "differs: nas.trainer.modnas.estim.search: its 3 epochs evaluate 3 architectures there"
    assert any(note.startswith(told) for note in converted(read("ps")).notes)


def test_modular_nas_alone_warms_up_and_learns_by_any_mixed_operator() -> None:
    assert config_of("modnas") == {
        "space": "mobilenet_v2_cifar",
        "space_options": {
            "num_classes": 10,
            "construct": [["mixed_op", {"candidates": ["MB3E3", "MB5E6"]}]],
        },
        "data": "cifar10",
        "data_options": {"root": "/data/cifar10", "valid": 25_000},
        "steps": [
            {
                "search": {
                    "algo": "DirectGradOptimBiLevel",
                    "epochs": 5,
                    "options": {
                        **WEIGHTS,
                        "lr": 0.05,
                        "weight_decay": 0.0,
                        "clip": 5.0,
                        "batch_size": 32,
                        "a_optim": {"type": "Adam", "args": {"lr": 0.001}},
                        "mixed_op": "gumbel_sum",
                        "warmup_epochs": 2,
                    },
                }
            }
        ],
        "descriptions": {"search": "recursive"},
    }


def test_documented_and_registered_names_are_the_same() -> None:
    registered = config_of("pxl")
    tree = read("pxl")
    custom = tree["nas"]["search_space"]["custom"]
    mixed = custom.pop("construct")["mixed_op"]
    custom["search"] = {
        "mixed_op": {"type": "binary-gate_MixedOp", "candidates": mixed["primitives"]}
    }
    tree["nas"]["trainer"]["modnas"]["estim"]["search"]["type"] = "super_net estim"
    assert converted(tree).config["steps"] == registered["steps"]
    args = {"mixed_op": "BinGate", "primitives": mixed["primitives"]}
    custom["construct"] = {"mixed_op": {"type": "DefaultMixedOpConstructor", "args": args}}
    del custom["search"]
    assert converted(tree).config["steps"] == registered["steps"]


def test_the_backbone_of_a_training_is_predefined_or_described(tmp_path: Path) -> None:
    (step,) = config_of("mbv2")["steps"]
    assert len(step["retrain"]["arch"]) == 21
    assert {*step["retrain"]["arch"].values()} == {"MB3E6"}
    names = ["MB3E3", "NIL", *["MB7E6"] * 19]
    file = tmp_path / "arch.yaml"
    file.write_text(yaml.safe_dump([None, *([name] for name in names)]))
    place = "fully_train.model.model_desc.custom.arch_desc"
    for description, folder in ((names, "."), ("arch.yaml", tmp_path), (str(file), ".")):
        config = converted(changed("mbv2", place, description), folder).config
        assert list(config["steps"][0]["retrain"]["arch"].values()) == names
        assert config["space_options"] == {"num_classes": 10, "zero": True}
    entries = iter(({"ent": {}}, *([name] for name in names)))
    nested = {"bottlenecks": {f"{at}": {"conv": entry} for at, entry in enumerate(entries)}}
    for tree in (nested, {f"c_{at}": name for at, name in enumerate(names)}):
        config = converted(changed("mbv2", place, json.dumps(tree))).config
        assert list(config["steps"][0]["retrain"]["arch"].values()) == names
    tree = changed("mbv2", place, [["MB5E1"], *([name] for name in names)])
    augment = tree["fully_train"]["model"]["model_desc"]["custom"]["augment"]
    augment["construct"] = {"arch_desc": "DefaultSlotArchDescConstructor"}
    config = converted(tree).config
    assert list(config["steps"][0]["retrain"]["arch"].values()) == ["MB5E1", *names]
    used = ["MB5E1", "MB3E3", "NIL", "MB7E6"]
    assert config["space_options"]["construct"] == [["mixed_op", {"candidates": used}]]
    with pytest.raises(ValueError, match=rf"{place}: expected 21 entries, or 22 .* got 3"):
        converted(changed("mbv2", place, names[:3]))


def test_a_chain_of_estimators_ends_with_what_it_searches() -> None:
    tree = read("ps")
    space = tree["nas"]["search_space"]["custom"]
    space["construct"] = {"mixed_op": {"type": "Index", "primitives": ["MB3E3", "MB3E6"]}}
    tree["nas"]["trainer"]["modnas"] = {
        "estim": {
            "paths": {"type": "RandomSamplingEstim", "epochs": 7},
            "search": {"type": "SubNetEstimator", "epochs": 4, "arch_update_batch": 5},
        }
    }
    supernet, search, _ = converted(tree).config["steps"]
    assert (supernet["supernet"]["algo"], supernet["supernet"]["epochs"]) == ("spos", 7)
    assert search == {"search": {"algo": "EvolutionOptim", "trials": 20}}
    alone = {"search": {"type": "SubNetEstim", "epochs": 2, "subnet_epochs": 3}}
    tree["nas"]["trainer"]["modnas"] = {"estim": alone}
    search, _ = converted(tree).config["steps"]
    assert search["search"]["evaluator"] == "standalone"
    assert (search["search"]["epochs"], search["search"]["trials"]) == (3, 2)
    assert search["search"]["evaluator_options"]["lr"] == 0.025


def test_a_search_by_gradients_runs_and_describes_its_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    result, trained = raynas.run(
        FILES / "pxl.yml",
        smoke=True,
        sets={
            **SMALL,
            "space_options.construct": [["mixed_op", {"candidates": ["MB3E3", "MB5E3"]}]],
            "search.options.batch_size": 128,
            "search.constraints": ["macs<60e6"],
        },
        out=str(out),
    )
    assert isinstance(result, Result)
    assert isinstance(trained, Trained)
    assert trained.arch == result.best.arch
    assert "ignored: general.backend: Ray decides" in capsys.readouterr().err
    text = (out / "1-search" / "outputs" / "arch_search_best.yaml").read_text()
    assert [[choice] for choice in result.best.arch.values()] == yaml.safe_load(text)
    assert "stage1_block1" in result.best.arch  # the plain constructor fills the first slot too
    again = read_pipeline(out / "config.yaml", sets={})
    assert again.descriptions == {"search": "DefaultSlotTraversalExporter"}


def test_a_file_is_converted_and_runs_unchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = tmp_path / "mbv2.yaml"
    assert main(["convert", str(FILES / "mbv2.yml")]) == 0
    printed = capsys.readouterr().out
    assert main(["convert", str(FILES / "mbv2.yml"), str(ours)]) == 0
    assert ours.read_text() == printed
    assert "ignored: general.backend" in capsys.readouterr().err
    ours.write_text("mine")
    assert main(["convert", str(FILES / "mbv2.yml"), str(ours)]) != 0
    assert "is there already" in capsys.readouterr().err
    assert ours.read_text() == "mine"
    assert main(["convert", str(FILES / "mbv2.yml"), str(ours), "--force"]) == 0
    sets = ["--set", "ray.inline=true", "--set", "data_options.size=8"]
    assert main(["run", str(ours), "--smoke", *sets, "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "metrics.json").is_file()


class Template(nn.Module):
    """A model with slots, as somebody has it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, 2, 1)
        self.blocks = nn.Sequential(Slot(4, 4, 1), Slot(4, 8, 2))
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return logits


def test_a_template_of_ones_own_is_searched_by_them(tmp_path: Path) -> None:
    tree = read("darts")
    custom = tree["nas"]["search_space"]["custom"]
    custom["model"] = {"type": f"{Template.__module__}:Template"}
    custom["search"]["mixed_op"]["candidates"] = ["NC3", "MB3E3"]
    for step in ("nas", "fully_train"):
        tree[step]["dataset"] = {"type": "Digits", "common": {"size": 8, "batch_size": 256}}
    result, trained = raynas.run(tree, sets={"ray.inline": True}, out=str(tmp_path / "run"))
    assert len(result.trials) == 4
    assert trained.arch == result.best.arch
    described = tmp_path / "run" / "1-search" / "outputs" / "arch_search_best.yaml"
    assert yaml.safe_load(described.read_text()) == [[name] for name in result.best.arch.values()]


@pytest.mark.parametrize(
    ("name", "path", "value", "says"),
    [
        ("darts", "pipeline", ..., "pipeline: expected a list of steps, got none"),
        ("darts", "pipeline", "nas", "pipeline: expected a list of names of steps, got 'nas'"),
        ("darts", "pipeline", ["naz"], "pipeline: there is no section 'naz'; did you mean 'nas'"),
        ("darts", "generl", {}, "no setting is named 'generl'; did you mean 'general'"),
        (
            "darts",
            "general.quotas",
            1,
            "no setting is named 'general.quotas'; did you mean 'quota'",
        ),
        (
            "darts",
            "nas.trainr",
            {},
            "no setting is named 'nas.trainr'; did you mean 'trainer'",
        ),
        (
            "darts",
            "nas.search_space.custom.constrct",
            {},
            "no setting is named 'nas.search_space.custom.constrct'; did you mean 'construct'",
        ),
        (
            "darts",
            "nas.pipe_step.type",
            "SearchStep",
            "nas.pipe_step.type: no step named 'SearchStep'.* did you mean 'SearchPipeStep'",
        ),
        *(
            (
                "darts",
                "nas.search_space.custom.model.type",
                backbone,
                f"no space for the backbone '{backbone}'; those here are darts_cifar, .*"
                "mobilenet_v2_cifar_gpu, .*ofa_mobilenet_v3",
            )
            for backbone in ("CIFAR_ResNet18", "CIFAR_MobileNetV3Large", "CIFAR_ShuffleNetV2")
        ),
        (
            "darts",
            "nas.search_space.custom.model.type",
            "CIFAR_MobileNetV2_GPV",
            "nas.search_space.custom.model.type: .*'CIFAR_MobileNetV2_GPV'; did you mean .CIFAR",
        ),
        (
            "darts",
            "nas.search_space.custom.model.args",
            {"n_class": 10},
            "no setting is named 'nas.search_space.custom.model.args.n_class'; did you mean 'n_cl",
        ),
        (
            "darts",
            "nas.search_space.custom.search.mixed_op.candidates",
            ["MB3E4"],
            "custom.search.mixed_op.candidates: no operator named 'MB3E4'",
        ),
        (
            "darts",
            "nas.search_space.custom.search.mixed_op.type",
            "BinGate",
            "optim.type: DARTSOptim goes with the mixed operator weighted_sum, got binary_gate",
        ),
        (
            "darts",
            "nas.search_algorithm.optim.type",
            "DARTSOptm",
            "nas.search_algorithm.optim.type: .*'DARTSOptm'.*; did you mean 'DARTSOptim'",
        ),
        (
            "pxl",
            "nas.search_algorithm.optim.args",
            {"n_sample": 2},
            "nas.search_algorithm.optim.args: .*n_sample",
        ),
        (
            "darts",
            "nas.trainer.modnas.estim.search.type",
            "SuperNet",
            "nas.trainer.modnas.estim.search.type: no estimator named 'SuperNet'",
        ),
        (
            "darts",
            "nas.trainer.modnas.estim.search.type",
            "SubNetEstim",
            "nas.trainer.modnas.estim: DARTSOptim learns by a SuperNetEstim",
        ),
        (
            "darts",
            "nas.trainer.modnas.estim.search.epochs",
            "many",
            "nas.trainer.modnas.estim.search.epochs: .*integer.*, got 'many'",
        ),
        (
            "darts",
            "nas.trainer.modnas.export",
            {"default": "RecursiveExporter"},
            "nas.trainer.modnas.export.default.type: .*; did you mean 'DefaultRecursiveExporter'",
        ),
        (
            "darts",
            "nas.trainer.optimizer.type",
            "SGDD",
            "nas.trainer.optimizer.type: no optimizer named .SGDD..*; did you mean 'SGD'",
        ),
        (
            "darts",
            "nas.trainer.optimizer.params",
            {"lrr": 1},
            "no setting is named 'nas.trainer.optimizer.params.lrr'; did you mean 'lr'",
        ),
        ("darts", "nas.dataset.type", "Cifar11", "nas.dataset.type: .*; did you mean 'Cifar1"),
        (
            "darts",
            "nas.dataset.common.train_portion",
            1.5,
            "nas.dataset.common.train_portion: expected a share above 0 and at most 1, got 1.5",
        ),
        ("darts", "fully_train.trainer.ref", "nas.trainr", "there is no section 'nas.trainr'; did"),
        ("darts", "fully_train.trainer.ref", "fully_train.trainer", "refers to itself"),
        (
            "darts",
            "nas.search_space.hyperparameters",
            [{"key": "x"}],
            "nas.search_space.hyperparameters: hyperparameters are not searched here",
        ),
        ("pxl", "general.quota", "flops 10", "general.quota: expected such as .*, got 'flops 10'"),
        ("pxl", "general.quota", "flop < 10", "general.quota: .*'flop'.*; did you mean 'flops'"),
        ("pxl", "general.quota", "flops < ten", "general.quota: expected a number, got 'ten'"),
        (
            "ps",
            "nas.trainer.modnas.estim.ps.args.stages",
            [{"sequentail": [1]}],
            "no setting is named '.*estim.ps.args.stages.0.sequentail'; did you mean 'sequential'",
        ),
        (
            "ps",
            "nas.search_space.custom.construct.elastic",
            ...,
            "estim.ps: needs an elastic space",
        ),
        ("mbv2", "fully_train.pipe_step", {}, "^fully_train.pipe_step.type: field required$"),
        ("mbv2", "fully_train.model", ..., "fully_train: there is no search before it"),
        ("modnas", "routine", "tune", "routine: expected search or augment, got 'tune'"),
        ("modnas", "optm", {}, "no setting is named 'optm'; did you mean 'optim'"),
    ],
)
def test_what_is_not_understood_is_said_by_its_key(
    name: str, path: str, value: Any, says: str
) -> None:
    tree = changed(name, path, value)
    assert is_vega(tree)
    with pytest.raises((ValueError, LookupError), match=says) as told:
        converted(tree)
    assert "\n" not in str(told.value)


LAUGHS = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pipeline: [nas]\npipeline: [nas]", r"the key 'pipeline' stands twice \(line 2\)"),
        ("pipeline: !!python/object/apply:os.system ['true']", "constructor for the tag"),
        (LAUGHS, f"aliases repeat values more than {LARGEST:,} times"),
        ("pipeline: &a [*a]", "an alias stands within what it repeats"),
        ("pipeline: " + "[" * 1000, "nested too deeply|while parsing"),
        ("pipeline: [nas", "line 1"),
        ("", "the file is empty"),
        ("- nas", "expected keys and values, got"),
        ("pipeline: [nas]\n1: 2\nnas: {}", "expected names as keys, got 1"),
        (b"\x00\xff\xfe", "no configuration in YAML"),
        (b"\x89PNG\r\n\x1a\n\x00", "no configuration in YAML"),
    ],
)
def test_what_no_file_holds_is_one_sentence(
    text: str | bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "vega.yml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=says) as told:
        read_pipeline(file, sets={})
    assert "\n" not in str(told.value)
    assert main(["run", str(file), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {file}: ")
    assert not (tmp_path / "out").exists()


def test_files_that_are_none_are_said(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder: name the configuration file in it"):
        raynas.run(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no configuration file"):
        raynas.run(tmp_path / "none.yml")
    assert main(["convert", str(tmp_path / "none.yml")]) == 2
    assert main(["run", str(FILES / "mbv2.yml"), "--set", "x=["]) == 2
    ours = tmp_path / "ours.yaml"
    ours.write_text("search: {space: mlp}")
    assert main(["convert", str(ours)]) == 2
    with pytest.raises(LookupError, match="no exporter named 'slot'; did you mean 'slots'"):
        read_pipeline({"search": {}, "descriptions": {"x": "slot"}}, sets={})
    with pytest.raises(ValueError, match=r"descriptions\.\.\./x"):
        read_pipeline({"search": {}, "descriptions": {"../x": "slots"}}, sets={})


def test_aliases_that_repeat_little_are_read() -> None:
    text = "a: &a {lr: 3e-4}\nb: {<<: *a, x: 1}\nc: [*a, *a]\n<<: {d: 1}"
    assert read_yaml(text) == {
        "a": {"lr": 3e-4},
        "b": {"lr": 3e-4, "x": 1},
        "c": [{"lr": 3e-4}] * 2,
        "d": 1,
    }
