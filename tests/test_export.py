"""Architectures of a run as files that other programs read."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

import raynas
from raynas.cli import main
from raynas.core.nest import call
from raynas.nn import LayerChoice
from raynas.nn.operators import OPERATORS
from tests.inline import INLINE


class Net(nn.Module):
    """Blocks with BatchNorm, h-swish, squeeze-and-excite, channel shuffle and dilation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, 2, 1)
        names = ("MB3E3SH", "SHU3", "dil_conv_3x3")
        self.block = LayerChoice({name: OPERATORS[name](8, 8, 2) for name in names}, label="block")
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.block(self.stem(x)).mean((2, 3)))
        return logits


def params(net: nn.Module) -> float:
    return float(sum(p.numel() for p in net.parameters()))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> raynas.Result:
    """All three architectures, measured by their size."""
    out = str(tmp_path_factory.mktemp("export"))
    return raynas.search(
        Net,
        algo="random",
        evaluator=params,
        objectives={"params": "min"},
        trials=3,
        data="digits",
        out=out,
        ray=INLINE,
    )


def images(count: int) -> Tensor:
    return torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("block", ["MB3E3SH", "SHU3", "dil_conv_3x3"])
def test_onnx_computes_the_same_for_any_batch(
    run: raynas.Result, block: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "net.onnx"
    run.export(file, {"block": block})
    assert capfd.readouterr().out == ""
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["input"]
    net = run.model({"block": block})
    for count in (1, 5):
        x = images(count)
        found: Any = ReferenceEvaluator(model).run(["logits"], {"input": x.numpy()})
        (logits,) = found
        with torch.no_grad():
            np.testing.assert_allclose(logits, net(x).numpy(), rtol=1e-4, atol=1e-5)


def test_torch_export_computes_the_same_for_any_batch(run: raynas.Result, tmp_path: Path) -> None:
    file = tmp_path / "net.pt2"
    run.export(file)
    program = torch.export.load(file).module()
    for count in (1, 5):
        with torch.no_grad():
            torch.testing.assert_close(program(images(count)), run.model()(images(count)))


def test_executorch_is_an_extra(
    run: raynas.Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "executorch.exir", None)
    with pytest.raises(ImportError, match=r"net\.pte takes ExecuTorch: pip install 'raynas"):
        run.export(tmp_path / "net.pte")
    assert not (tmp_path / "net.pte").exists()


def test_executorch_computes_the_same(run: raynas.Result, tmp_path: Path) -> None:
    runtime = pytest.importorskip("executorch.runtime")
    file = tmp_path / "net.pte"
    run.export(file)
    method = runtime.Runtime.get().load_program(file).load_method("forward")
    x = images(1)
    with torch.no_grad():
        torch.testing.assert_close(method.execute([x])[0], run.model()(x))


def test_without_a_supernet_a_whole_network_is_the_same(run: raynas.Result) -> None:
    """Nothing was trained: both have initial weights, by the run's seed."""
    assert not run.rebuilt.narrow
    whole, plain = run.model(whole=True), run.model()
    torch.testing.assert_close(whole.state_dict(), plain.state_dict(), rtol=0, atol=0)


def test_json_is_read_back(run: raynas.Result, tmp_path: Path) -> None:
    file = tmp_path / "best.json"
    run.export(file)
    assert json.loads(file.read_text()) == dict(run.best.arch)
    best = raynas.ModelSpace(Net).build(json.loads(file.read_text()))
    assert params(best) == run.best.metrics["params"]


def test_the_command_writes_any_trial(
    run: raynas.Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worst = run.trials.sort_values("params").iloc[-1]
    file = tmp_path / "worst.json"
    assert main(["export", run.path, str(file), "--trial", str(worst["trial"])]) == 0
    assert json.loads(file.read_text()) == json.loads(worst["arch"])
    assert f"trial {worst['trial']}" in capsys.readouterr().out
    assert main(["export", run.path, str(file), "--trial", "7"]) == 2
    assert "no trial 7; it has 0 to 2" in capsys.readouterr().err


def test_what_cannot_be_written_is_said(run: raynas.Result, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ending in one of \.json, .* got .*net\.h5"):
        run.export(tmp_path / "net.h5")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        run.export(tmp_path / "nowhere" / "net.json")


class TwoInputs(nn.Module):
    """A network with a mask beside its input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = LayerChoice({"a": nn.Linear(4, 3), "b": nn.Linear(4, 3, bias=False)}, "layer")

    def forward(self, x: Tensor, mask: Tensor, scale: float = 1.0) -> Tensor:
        """Return masked logits."""
        logits: Tensor = self.layer(x) * mask * scale
        return logits


class OneInput(TwoInputs):
    """The same without a mask."""

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:  # type: ignore[override]
        """Return logits."""
        logits: Tensor = self.layer(x) * scale
        return logits


def searched(space: Any, out: Path, **more: Any) -> raynas.Result:
    """Search with a function: no data are there."""
    return raynas.search(
        space,
        "grid",
        evaluator=params,
        objectives={"params": "min"},
        trials=2,
        out=str(out),
        ray=INLINE,
        **more,
    )


def test_a_network_of_two_inputs_needs_an_example_of_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = r"TwoInputs\.forward takes 2 inputs \(x, mask\), and the example is one tensor"
    for name, space in {"own": TwoInputs, "shaped": raynas.ModelSpace(TwoInputs)}.items():
        run = searched(space, tmp_path / name)
        run.export(tmp_path / "best.json")
        assert json.loads((tmp_path / "best.json").read_text()) == {"layer": "b"}
        for file in ("net.onnx", "net.pt2"):
            with pytest.raises(LookupError, match=r"is not known; .* or \(\.\.\., example="):
                run.export(tmp_path / file)
    assert main(["export", str(tmp_path / "own"), str(tmp_path / "net.onnx")]) == 2
    assert "the shape of an example is not known" in capsys.readouterr().err
    assert not (tmp_path / "net.onnx").exists()
    with pytest.raises(ValueError, match=f"{told}; .* a dict of x, mask: example="):
        raynas.profile(TwoInputs, input_shape=(4,))
    space = raynas.ModelSpace(TwoInputs, input_shape=(4,))
    with pytest.raises(ValueError, match=told):
        searched(space, tmp_path / "bounded", constraints="macs < 100")
    assert not (tmp_path / "bounded").exists()


@pytest.mark.parametrize("kind", ["tuple", "dict"])
def test_a_network_of_two_inputs_is_written_with_an_example_of_both(
    kind: str, tmp_path: Path
) -> None:
    x, mask = torch.randn(5, 4), torch.rand(5, 1)
    inputs: Any = (x, mask) if kind == "tuple" else {"x": x, "mask": mask}
    space = raynas.ModelSpace(TwoInputs, example=inputs)
    run = searched(space, tmp_path / "run", constraints="macs < 100")
    expected = call(run.model(), inputs)
    run.export(tmp_path / "net.pt2")
    program = torch.export.load(tmp_path / "net.pt2").module()
    torch.testing.assert_close(call(program, inputs), expected)
    run.export(tmp_path / "net.onnx")
    session = ReferenceEvaluator(str(tmp_path / "net.onnx"))
    names = ["input_0", "input_1"] if kind == "tuple" else ["x", "mask"]
    (logits,) = session.run(["logits"], dict(zip(names, (x.numpy(), mask.numpy()), strict=True)))
    torch.testing.assert_close(torch.from_numpy(np.array(logits)), expected)
    run.export(tmp_path / "net.pt")
    weights = torch.load(tmp_path / "net.pt", weights_only=True)
    assert weights.keys() == run.model().state_dict().keys()
    assert raynas.cost(TwoInputs, {"layer": "b"}, example=inputs).macs == 12
    assert "12" in str(raynas.profile(TwoInputs, example=inputs))


def test_without_data_the_space_knows_the_shape(tmp_path: Path) -> None:
    run = searched(raynas.ModelSpace(OneInput, input_shape=(4,)), tmp_path / "shaped")
    raynas.load(run.path).export(tmp_path / "net.pt2")
    program = torch.export.load(tmp_path / "net.pt2").module()
    x = torch.ones(3, 4)
    torch.testing.assert_close(program(x), run.model()(x))
    with pytest.raises(LookupError, match=r"the run used no data, .* input_shape=\.\.\.\)"):
        searched(OneInput, tmp_path / "unknown").export(tmp_path / "other.pt2")
