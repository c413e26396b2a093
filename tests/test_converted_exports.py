"""Networks of converted models as files that others run, and where raynas is not installed."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import raynas
from raynas.core.arch import Arch
from raynas.nn import LayerChoice
from raynas.results.program_files import write_network
from tests.inline import INLINE

LLAMA: dict[str, Any] = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32}
LLAMA |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
BERT: dict[str, Any] = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32}
BERT |= {"num_hidden_layers": 2, "num_attention_heads": 4}
ELASTIC = {"width": [0.5], "heads": [0.5], "depth": True}
MODELS = {
    "hf:LlamaForCausalLM": {"elastic": ELASTIC, **LLAMA},
    "hf:BertForSequenceClassification": {"elastic": ELASTIC, **BERT},
    "timm:test_resnet": {"elastic": {"width": [0.5], "depth": True}, "num_classes": 3},
    "torchvision:resnet18": {"elastic": {"width": [0.5], "depth": True}, "resolution": 32},
}
CASES = [
    pytest.param(name, ending, marks=() if (at, ending) == (0, "pt2") else pytest.mark.full)
    for at, name in enumerate(MODELS)
    for ending in ("pt2", "onnx", "pte")
]


def smaller(space: Any) -> Arch:
    """Return an architecture of which every second decision is the smallest."""
    order = iter(range(len(space.arch_space.decisions)))
    chosen: Arch = space.arch_space.decided(lambda decision: decision.options[-(next(order) % 2)])
    return chosen


def logits(output: Any) -> Tensor:
    tensor: Tensor = output["logits"] if isinstance(output, dict) else output
    return tensor


@pytest.mark.parametrize(("name", "ending"), CASES)
def test_extracted_networks_compute_the_same_elsewhere(
    name: str, ending: str, tmp_path: Path
) -> None:
    if ending == "pte":
        pytest.importorskip("executorch.runtime")
    space: Any = raynas.space(name, **MODELS[name])
    net = space.build(smaller(space)).eval()
    whole = sum(p.numel() for p in space.model.parameters())
    assert sum(p.numel() for p in net.parameters()) < whole
    file = str(tmp_path / f"net.{ending}")
    write_network(net, file, lambda: space.signature, None)
    for rows in (1,) if ending == "pte" else (1, 2):
        inputs = space.tried_example[:rows]
        with torch.no_grad():
            expected = logits(net(inputs))
        torch.testing.assert_close(ran(file, inputs), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def ran(file: str, inputs: Tensor) -> Tensor:
    """Run a file by what it is for."""
    if file.endswith(".pt2"):
        return logits(torch.export.load(file).module()(inputs))
    if file.endswith(".onnx"):
        session: Any = import_module("onnxruntime").InferenceSession(file)
        made = session.run(["logits"], {"input": inputs.numpy()})[0]
        return torch.from_numpy(made)
    from executorch.runtime import Runtime

    outputs = Runtime.get().load_program(file).load_method("forward").execute([inputs])
    tensor: Tensor = outputs[0]
    return tensor


class Own(nn.Module):
    """A space of this file's own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = LayerChoice([nn.Linear(256, 10), nn.Linear(256, 10, bias=False)], "layer")

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layer(x.flatten(1))
        return made


ALONE = """
import sys
sys.modules["raynas"] = None
sys.path.insert(0, "home")
import torch
torch.set_num_threads(1)
import load_network
inputs, expected, own = torch.load("outputs.pt")
with torch.no_grad():
    torch.testing.assert_close(load_network.load_network()(inputs), expected)
    torch.testing.assert_close(torch.export.load("own.pt2").module()(inputs), own)
"""


@pytest.mark.full
def test_trained_networks_load_without_raynas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    space: Any = raynas.space("timm:test_resnet", elastic={"width": [0.5]}, in_channels=1)
    model, own = (
        raynas.retrain(arch, space=given, data="digits", epochs=1, out=out, ray=INLINE)
        for arch, given, out in ((smaller(space), space, "model"), ({"layer": 1}, Own, "own"))
    )
    model.save("home")
    with pytest.raises(FileExistsError, match=r"network\.json is there already.*force=True"):
        model.save("home")
    model.save("home", force=True)
    with pytest.raises(TypeError, match=r"no model that was converted .*: export its network"):
        own.save("own_home")
    own.export("own.pt2")
    inputs = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.save((inputs, model.model()(inputs), own.model()(inputs)), "outputs.pt")
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
