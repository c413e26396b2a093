"""Models of other libraries as spaces by their names: what is understood, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import raynas
from raynas.cli.common import space_options
from raynas.setup.resolve import rebuild_space, resolve_space


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


def test_an_order_that_needs_no_data_is_rebuilt_and_others_ask_for_the_space() -> None:
    plain: Any = raynas.space("timm:test_resnet", elastic={"width": 0.5}, num_classes=3)
    by_l1 = plain.sorted("l1")
    again: Any = rebuild_space(resolve_space(by_l1, {}, None).spec, None).model_space
    options = {"width": 0.5, "order": "l1"}
    said: Any = raynas.space("timm:test_resnet", elastic=options, num_classes=3)
    before = plain.model.state_dict()
    assert not torch.equal(before["conv1.0.weight"], by_l1.model.state_dict()["conv1.0.weight"])
    for other in (again, said):
        for name, tensor in other.model.state_dict().items():
            assert torch.equal(tensor, by_l1.model.state_dict()[name]), name
    by_data = plain.sorted("activation", batches=[plain.tried_example])
    with pytest.raises(LookupError, match="space="):
        rebuild_space(resolve_space(by_data, {}, None).spec, None)
    with pytest.raises(ValueError, match="which needs no data"):
        raynas.space("timm:test_resnet", elastic={"width": 0.5, "order": "gradient"})
