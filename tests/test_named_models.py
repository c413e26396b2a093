"""Models of other libraries as spaces by their names: what is understood, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

import raynas
from raynas.cli.common import space_options


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("timm:resnet19", {}, "did you mean 'timm:resnet18'"),
        ("timm:resnet18.a1_in1k", {}, "write 'timm:resnet18'"),
        ("torchvision:resnet19", {}, "did you mean 'torchvision:resnet18'"),
        ("hf:LlamaForCausalLm", {}, "did you mean 'hf:LlamaForCausalLM'"),
        ("hf:some/model", {}, "nothing is downloaded"),
        ("hf:LlamaForCausalLM", {"hiden_size": 8}, "did you mean 'hidden_size'"),
        ("hf:LlamaForCausalLM", {"trust_remote_code": True}, "nothing is downloaded"),
        ("timm:test_resnet", {"pretrained": True}, "nothing is downloaded"),
        ("torchvision:resnet18", {"weights": "a.pt"}, "expected a .safetensors file"),
        ("timm:", {}, "names no model"),
    ],
)
def test_what_no_model_can_be_built_of_is_told(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, KeyError, FileNotFoundError), match=message):
        raynas.space(name, elastic={"width": 0.5}, **options)


def test_what_is_elastic_has_to_be_said_in_words_that_are_known() -> None:
    with pytest.raises(ValueError, match="say what may become smaller"):
        raynas.space("timm:test_resnet")
    with pytest.raises(ValueError, match="did you mean 'width'"):
        raynas.space("timm:test_resnet", elastic={"widht": 0.5})


def test_flags_say_what_python_does() -> None:
    flags = ["width=0.5,1.0", "depth=true", "skip=fc,*attn"]
    elastic = {"width": [0.5, 1.0], "depth": True, "skip": ["fc", "*attn"]}
    assert space_options(None, ["patch_size=4"], flags) == {"patch_size": 4, "elastic": elastic}


def test_a_model_is_described() -> None:
    told = raynas.describe("hf:LlamaForCausalLM")
    assert "num_key_value_heads" in told
    assert "raynas profile hf:LlamaForCausalLM --elastic" in told
