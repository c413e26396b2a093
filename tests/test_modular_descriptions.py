"""Descriptions that ModularNAS writes are read, and written by its names of exporters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import raynas
from raynas.core.errors import InvalidArch
from raynas.nn import Slot, freeze, space_of
from raynas.nn.construct import construct
from raynas.nn.export import export
from raynas.nn.slot import empty_slots
from raynas.setup.resolve import resolve_space
from raynas.setup.retrain_request import arch_in, is_architecture
from tests.inline import INLINE

BLOCKS = {"mobilenet_v2_cifar": 17, "mobilenet_v2_cifar_gpu": 22}


def space(name: str, **options: Any) -> Any:
    return raynas.space(name, width=0.1, **options)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_slot_list_has_a_null_for_the_fixed_block(name: str) -> None:
    net = space(name).supernet()
    labels = space_of(net).labels
    arch = {label: ("MB3E6", "MB7E3")[at % 2] for at, label in enumerate(labels)}
    written = export(net, arch, "DefaultSlotTraversalExporter")
    assert len(written) == BLOCKS[name] == len(labels) + 1
    assert written[:3] == [None, ["MB3E6"], ["MB7E3"]]
    assert export(net, arch, "slots") == written[1:]
    plain = freeze(net, arch)
    for listed in (written, [e if e is None else e[0] for e in written], written[1:]):
        options = {"arch_desc": json.dumps(listed)}
        read = construct(net, [("DefaultSlotArchDescConstructor", options)])
        assert list(read.state_dict()) == list(plain.state_dict())
        assert all(map(torch.equal, read.state_dict().values(), plain.state_dict().values()))


def test_lists_of_another_length_or_for_the_fixed_block_are_refused() -> None:
    net = space("mobilenet_v2_cifar").supernet()
    for count in (15, 18, 22):
        with pytest.raises(InvalidArch, match=f"expected 16 entries, .* got {count}"):
            construct(net, [("arch_desc", {"arch_desc": [["MB3E6"]] * count})])
    with pytest.raises(InvalidArch, match=r"entry 0: this block is fixed, .* slots=True"):
        construct(net, [("arch_desc", {"arch_desc": [["MB3E6"]] * 17})])


def test_the_list_of_mixed_operators_of_a_whole_template() -> None:
    mixed = ("DefaultMixedOpConstructor", {"primitives": ["MB3E6", "MB7E3"]})
    net = construct(space("mobilenet_v2_cifar_gpu", slots=True).factory(), [mixed])
    arch = {label: "MB7E3" for label in space_of(net).labels}
    written = export(net, arch, "DefaultSlotTraversalExporter")
    assert written == [["MB7E3"]] * 22
    template = space("mobilenet_v2_cifar_gpu", slots=True).factory()
    read = construct(template, [("arch_desc", {"arch_desc": written})])
    assert list(read.state_dict()) == list(freeze(net, arch).state_dict())


@pytest.mark.parametrize("as_text", [False, True])
def test_a_null_is_the_predefined_block_of_a_template(as_text: bool) -> None:
    slots = raynas.space("CIFAR_MobileNetV2", slots=True)
    listed: Any = [None, *["MB3E6"] * 16]
    given = json.dumps(listed) if as_text else listed
    net = construct(slots.factory(), [("DefaultSlotArchDescConstructor", {"arch_desc": given})])
    assert not empty_slots(net)
    assert sum(p.numel() for p in net.parameters()) == 2_236_682
    written = {"arch_desc": tree(["MB3E6"] * 16)}
    nested = construct(slots.factory(), [("DefaultRecursiveArchDescConstructor", written)])
    assert sum(p.numel() for p in nested.parameters()) == 2_236_682


def test_a_null_leaves_a_slot_that_knows_no_block_and_running_it_says_so() -> None:
    template = torch.nn.Sequential(Slot(4), Slot(4, predefined="NC3"))
    net = construct(template, [("arch_desc", {"arch_desc": [None, None]})])
    assert [slot.path for slot in empty_slots(net)] == ["0"]
    with pytest.raises(RuntimeError, match=r"slot '0' .* is empty: fill it"):
        net(torch.zeros(1, 4, 4, 4))


def test_parameters_are_numbered() -> None:
    net = construct(
        torch.nn.Sequential(*(Slot(4) for _ in range(12))),
        [("mixed_op", {"candidates": ["NC3", "IDT"]})],
    )
    arch = {str(at): "IDT" if at % 3 else "NC3" for at in range(12)}
    written = export(net, arch, "DefaultParamsExporter")
    assert list(written) == [f"c_{at}" for at in range(12)]
    for given in (written, dict(reversed(list(written.items())))):
        read = construct(net, [("params", {"arch_desc": given})])
        assert list(read.state_dict()) == list(freeze(net, arch).state_dict())
    del written["c_4"]
    with pytest.raises(InvalidArch, match="expected more than 11 choices"):
        construct(net, [("params", {"arch_desc": written})])


def tree(ops: list[str], counts: Sequence[int] = (1, 2, 3, 4, 3, 3, 1)) -> dict[str, Any]:
    """Return what ModularNAS' recursive exporter writes of a MobileNetV2 of seven stages."""
    rest = iter(ops)
    stages: dict[str, Any] = {}
    for stage, count in enumerate(counts):
        blocks = {
            f"MobileInvertedResidualBlock_{stage}_{at}": {
                "conv": [next(rest)] if stage else {"ent": {str(k): {} for k in range(5)}}
            }
            for at in range(count)
        }
        stages[f"Bottlenecks_{stage}"] = blocks
    layers: dict[str, Any] = {str(k): {} for k in range(3)}
    ends = {"conv_last": layers, "avgpool": {}, "dropout": {}, "fc": {}}
    return {"conv_first": layers, "bottlenecks": stages, **ends}


SMALL = {"width": 0.1, "depth": 0.3}
OPS = ["MB5E6", "MB3E3", "MB7E6", "MB3E6", "MB5E3", "MB3E3", "MB7E3"]


def forms(folder: Path) -> dict[str, Any]:
    """Return one architecture in every form in which ModularNAS may have written it."""
    listed, counts = [None, *([op] for op in OPS)], (1, 1, 1, 2, 1, 1, 1)
    file = folder / "arch_best.yaml"
    file.write_text(json.dumps(listed))
    (folder / "arch_best.json").write_text(json.dumps(listed))
    return {
        "list": listed,
        "names": [None, *OPS],
        "without the null": OPS,
        "numbered": {f"c_{at}": op for at, op in enumerate(OPS)},
        "nested": tree(OPS, counts),
        "nested as text": json.dumps(tree(OPS, counts)),
        "JSON": json.dumps(listed),
        "YAML": "\n".join(["- null", *(f"- {op}" for op in OPS)]),
        "file": str(file),
        "path": file,
        "JSON file": str(folder / "arch_best.json"),
    }


def test_an_architecture_of_any_form_is_retrained(tmp_path: Path) -> None:
    space = resolve_space("mobilenet_v2_cifar", SMALL, None)
    expected = dict(zip(space.arch_space.labels, OPS, strict=True))
    for form, given in forms(tmp_path).items():
        assert is_architecture(given), form
        assert dict(arch_in(space, given)) == expected, form
    with pytest.raises(InvalidArch, match=r"expected 7 entries, or 8 with null .* got 3"):
        arch_in(space, OPS[:3])
    with pytest.raises(InvalidArch, match=r"entry 1 \(.*'NIL' is no option"):
        arch_in(space, ["MB3E3", "NIL", *OPS[2:]])
    with pytest.raises(InvalidArch, match="'stage2_block1' is not decided"):
        arch_in(space, [None, *OPS[1:]])
    with pytest.raises(FileNotFoundError, match=r"there is no file nowhere\.yaml"):
        arch_in(space, "nowhere.yaml")


def test_an_architecture_of_any_form_is_built_and_has_a_cost() -> None:
    space = raynas.space("CIFAR_MobileNetV2", **SMALL)
    plain = space.build(dict(zip(space.arch_space.labels, OPS, strict=True)), seed=3)
    for given in ([None, *OPS], json.dumps(OPS), tree(OPS, (1, 1, 1, 2, 1, 1, 1))):
        net = space.build(given, seed=3)
        assert all(map(torch.equal, net.state_dict().values(), plain.state_dict().values()))
    params = raynas.cost(space, [None, *OPS]).params
    assert params == sum(p.numel() for p in plain.parameters())


def test_what_modularnas_wrote_is_retrained(tmp_path: Path) -> None:
    trained = raynas.retrain(
        [None, *OPS],
        space="CIFAR_MobileNetV2",
        space_options=SMALL,
        data="digits",
        epochs=1,
        options={"batch_size": 512},
        out=str(tmp_path / "run"),
        ray=INLINE,
    )
    assert list(trained.arch.values()) == OPS


def test_a_tree_by_their_names_of_modules_is_read() -> None:
    net = space("mobilenet_v2_cifar").supernet()
    labels = space_of(net).labels
    ops = [("MB5E6", "MB3E3", "MB7E6")[at % 3] for at in range(16)]
    written = {"arch_desc": json.dumps(tree(ops))}
    read = construct(net, [("DefaultRecursiveArchDescConstructor", written)])
    plain = freeze(net, dict(zip(labels, ops, strict=True)))
    assert list(read.state_dict()) == list(plain.state_dict())
    other = space("mobilenet_v2_cifar_gpu").supernet()
    with pytest.raises(InvalidArch, match=r"expected 21 entries, .* got 17"):
        construct(other, [("recursive_arch_desc", written)])
