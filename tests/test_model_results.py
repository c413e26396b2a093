"""Networks of converted models in folders that load without raynas, and runs that name models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import raynas
from raynas.nn.named.save import save_network
from tests.inline import INLINE

LLAMA: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
ELASTIC = {"width": [0.5], "heads": [0.5], "depth": True}
LOADS = """
import sys
sys.modules["raynas"] = None
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
if sys.argv[2] == "transformers":
    import transformers
    net = transformers.LlamaForCausalLM.from_pretrained(sys.argv[1]).eval()
else:
    import load_network
    net = load_network.load_network()
inputs, expected = torch.load(sys.argv[1] + "/outputs.pt")
with torch.no_grad():
    torch.testing.assert_close(net(inputs)["logits"], expected)
"""


@pytest.fixture(scope="module")
def llama() -> Any:
    return raynas.space("hf:LlamaForCausalLM", elastic=ELASTIC, **LLAMA)


def loads_alone(space: Any, arch: Any, folder: Path) -> str:
    """Save a network, load it where raynas cannot be imported, and return what it loads by."""
    net = space.build(arch).eval()
    line = save_network(net, space, arch, folder)
    with torch.no_grad():
        logits = net(space.tried_example)["logits"]
    torch.save((space.tried_example, logits), folder / "outputs.pt")
    kind = line.partition(".")[0]
    done = subprocess.run(
        [sys.executable, "-c", LOADS, str(folder), kind], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return kind


def test_uneven_layers_load_by_the_file_beside_them(llama: Any, tmp_path: Path) -> None:
    arch = dict(llama.plan.largest) | {"model.layers.0.mlp.ffn": 16}
    arch["model.layers.1.self_attn.depth"] = 0
    del arch["model.layers.1.self_attn.heads"]
    assert loads_alone(llama, arch, tmp_path) == "load_network"


def test_even_layers_load_by_from_pretrained_without_what_is_left_out(
    llama: Any, tmp_path: Path
) -> None:
    halved = {
        label: value // 2 if label.endswith((".ffn", ".heads", ".width")) else value
        for label, value in llama.plan.largest.items()
        if not label.startswith("model.layers.1.") or label.endswith("depth")
    }
    arch = {k: 0 if k.startswith("model.layers.1.") else v for k, v in halved.items()}
    assert loads_alone(llama, arch, tmp_path) == "transformers"


def test_a_folder_with_a_network_is_not_written_over(llama: Any, tmp_path: Path) -> None:
    (tmp_path / "network.json").write_text("{}")
    arch = llama.arch_space.sample(np.random.default_rng(0))
    with pytest.raises(FileExistsError, match=r"network\.json is there already"):
        save_network(llama.build(arch), llama, arch, tmp_path)
    save_network(llama.build(arch), llama, arch, tmp_path, force=True)
    assert (tmp_path / "network.json").exists() != (tmp_path / "model.safetensors").exists()


def test_a_run_that_names_a_model_is_read_from_its_folder_alone(tmp_path: Path) -> None:
    options = {"elastic": {"ffn": [0.5]}, "patch_size": 8, "hidden_size": 16}
    options |= {"intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    result = raynas.search(
        "hf:ViTConfig",
        "random",
        space_options=options,
        supernet={"epochs": 1},
        trials=2,
        out=str(tmp_path / "run"),
        ray=INLINE,
    )
    again = raynas.load(result.path)
    net = again.model()
    assert net(torch.zeros(2, 1, 16, 16)).logits.shape == (2, 10)
    again.save(tmp_path / "home")
    assert (tmp_path / "home" / "config.json").is_file()
    with pytest.raises(FileExistsError, match=r"is there already: .*force=True"):
        again.save(tmp_path / "home")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="is a file: name a folder"):
        again.save(tmp_path / "file")
