"""Models of other libraries as spaces by their names: what is understood, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file

import raynas
from raynas.cli.common import space_options
from raynas.core.blocks import largest
from raynas.nn.named.hf_models import recipe
from raynas.nn.named.wanted import Wanted
from raynas.setup.resolve import rebuild_space, resolve_space
from tests.inline import INLINE


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


def test_special_tokens_are_none_beyond_the_vocabulary() -> None:
    pytest.importorskip("transformers")

    def special(**options: int) -> list[int | None]:
        config = recipe(Wanted(name="GPT2LMHeadModel", options=options))["config"]
        return [config["bos_token_id"], config["eos_token_id"]]

    assert special(vocab_size=256) == [None, None]
    assert special(vocab_size=256, eos_token_id=3) == [None, 3]
    assert special() == [50256, 50256]


def test_weights_come_from_a_local_folder_or_file(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    images = {"intermediate_size": 32, "image_size": 16, "patch_size": 8, "num_channels": 1}
    whole = transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, **images))
    whole.save_pretrained(tmp_path)
    space: Any = raynas.space(f"hf:{tmp_path}", elastic={"ffn": [0.5]})
    state = space.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in whole.state_dict().items())
    other: Any = raynas.space(f"hf:{tmp_path}", elastic={"ffn": [0.5]}, num_classes=7)
    assert other.model.classifier.out_features == 7
    model = torchvision.models.shufflenet_v2_x0_5(weights=None, num_classes=3)
    save_file(model.state_dict(), tmp_path / "own.safetensors")
    options: dict[str, Any] = {"elastic": {"width": [0.5]}, "num_classes": 3}
    name = "torchvision:shufflenet_v2_x0_5"
    space = raynas.space(name, weights=str(tmp_path / "own.safetensors"), **options)
    assert torch.equal(space.model.state_dict()["conv1.0.weight"], model.conv1[0].weight)
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.safetensors"):
        raynas.space(name, weights=str(tmp_path / "none.safetensors"), **options)


@pytest.mark.full
def test_weights_of_a_file_are_searched_as_they_are_and_read_again(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(3)
    model = timm.create_model("test_resnet", num_classes=10, in_chans=1)
    save_file(model.state_dict(), tmp_path / "own.safetensors")
    given = {"elastic": {"width": 0.5}, "weights": str(tmp_path / "own.safetensors")}
    common: dict[str, Any] = {
        "data": "digits",
        "supernet": {"epochs": 0},
        "trials": 1,
        "ray": INLINE,
        "out": str(tmp_path / "run"),
    }
    found = raynas.search("timm:test_resnet", "random", space_options=given, **common)
    again: Any = raynas.load(found.path).rebuilt.space
    assert again.trained
    net = raynas.load(found.path).model(largest(again.arch_space))
    for name, weight in net.named_parameters():
        assert torch.equal(weight, model.get_parameter(name)), name
    drawn = {"elastic": {"width": 0.5}}
    with pytest.raises(ValueError, match=r"epochs=0 searches weights as they are"):
        raynas.search(
            "timm:test_resnet",
            "random",
            space_options=drawn,
            **{**common, "out": str(tmp_path / "other")},
        )
