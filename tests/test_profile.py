"""Profiles of spaces: a toy by hand, what is printed, and what is refused."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import raynas
from raynas.cli import main
from raynas.core.constraints import Constraint
from raynas.costs.latency_files import Entry, to_json
from raynas.nn import LayerChoice
from raynas.nn.modelspace import ModelSpace
from raynas.report.profile import wilson
from tests.costnets import stages


def toy() -> nn.Module:
    """Two choices between 1x1 and 3x3 on a plane of 4 x 4 without padding loss."""

    def conv(kernel: int) -> nn.Module:
        return nn.Conv2d(1, 1, kernel, padding=kernel // 2, bias=False)

    return nn.Sequential(
        LayerChoice({"one": conv(1), "three": conv(3)}, label="first"),
        LayerChoice({"one": conv(1), "three": conv(3), "five": conv(5)}, label="second"),
    )


KERNELS = ("one", "three", "five")
SPACE = ModelSpace(toy, input_shape=(1, 4, 4), name="toy")
# macs per kernel: 16 pixels times 1, 9 or 25 weights


def test_a_toy_by_hand() -> None:
    found = raynas.profile(SPACE, constraints={"macs": (None, 200), "params": (11, None)})
    assert (found.size, found.samples, found.exact, found.note) == (6, 1000, True, None)
    assert [one.which for one in found.archs] == ["smallest", "median", "largest"]
    assert [one.metrics["macs"] for one in found.archs] == [32, 288, 544]
    assert [one.metrics["params"] for one in found.archs] == [2, 18, 34]
    # x, what the first layer returns, and what the second returns: three planes of 64 bytes
    assert [one.metrics["activation_bytes"] for one in found.archs] == [192] * 3
    assert dict(found.archs[0].arch) == {"first": "one", "second": "one"}
    assert dict(found.archs[2].arch) == {"first": "three", "second": "five"}
    macs, params = found.reaches
    assert (macs.least.value, macs.most.value) == (32, 544)
    # of the six, macs / 16 are 2, 10, 26, 10, 18, 34: three are at most 12.5. 5 standard errors
    # either way: a false alarm once in 1.7 million seeds, and the seed is fixed
    assert abs(macs.share - 3 / 6) < 5 * (0.25 / 1000) ** 0.5
    assert macs.low < macs.share < macs.high
    assert abs(params.share - 3 / 6) < 5 * (0.25 / 1000) ** 0.5
    assert (macs.possible, params.possible) == (True, True)
    assert found.share == 0.0  # macs are 16 times params here
    assert found.feasible is None
    assert found == raynas.profile(SPACE, constraints=["macs<200", "params>11"])
    assert found != raynas.profile(SPACE, constraints=["macs<200", "params>11"], seed=1)


def test_what_is_printed() -> None:
    text = str(raynas.profile(SPACE, constraints=["macs<200", "params>11", "macs>20"]))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "toy: 6 architectures"
    assert any(line.startswith("smallest │ 2 │ 32 │ 192 │") for line in lines)
    assert any(line.startswith("largest │ 34 │ 544 │ 192 │") for line in lines)
    assert any(line.startswith("20 <= macs <= 200 │ 32 │ 544 │") for line in lines)
    assert any(line.startswith("all together │ │ │ 0.0 % │ 0.0 to 0.4 %") for line in lines)
    assert "No architecture was found that meets all constraints at once." in lines
    assert "2 decisions" in lines
    assert "second │ 1 │ one, three, five" in lines


@pytest.mark.usefixtures("without_ray")
def test_bounds_out_of_reach_are_known_for_sure() -> None:
    found = raynas.profile("mobilenet_v2_cifar", constraints="macs<1e6", samples=1)
    (reach,) = found.reaches
    assert (reach.possible, reach.least.exact, found.feasible) == (False, True, False)
    assert "No architecture meets macs <= 1 M." in str(found)
    gap = raynas.profile(SPACE, constraints="33<macs<100", samples=50)
    assert gap.reaches[0].possible is None  # between two neighbours, which ends cannot tell
    assert "No architecture was found that meets 33 <= macs <= 100." in str(gap)


def test_spaces_without_a_table_are_searched() -> None:
    space = ModelSpace(lambda: stages(6), input_shape=(1, 4, 4), name="chain")
    found = raynas.profile(space, constraints="macs<100", samples=20)
    assert found.note is not None
    assert (found.exact, found.reaches[0].possible) == (False, None)
    text = str(found)
    assert "Smallest and largest are what a local search found." in text
    assert "(found)" in text
    assert "Costs are measured one by one" in text
    assert found.archs[0].metrics["macs"] < found.archs[1].metrics["macs"]


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="no metric 'mac' is known before training; did you mean"):
        raynas.profile(SPACE, constraints="mac<3")
    with pytest.raises(ValueError, match="a constraint on latency_ms needs a latency table"):
        raynas.profile(SPACE, constraints="latency_ms<3")
    with pytest.raises(ValueError, match=r"samples must be .* of at least 1, got 0"):
        raynas.profile(SPACE, samples=0)
    with pytest.raises(ValueError, match=r"samples must be .* of at least 1, got '5'"):
        raynas.profile(SPACE, samples="5")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="an ArchSpace has no networks"):
        raynas.profile(raynas.ArchSpace.of(depth=[1, 2]))
    with pytest.raises(
        ValueError, match=r"shape of toy is not known; pass input_shape= \(--input-"
    ):
        raynas.profile(toy)
    for shape in (3, "1,4,4", (1, 4.0, 4), (1, 0, 4)):
        with pytest.raises(TypeError, match="input_shape: expected a tuple of positive whole"):
            raynas.profile(toy, input_shape=shape)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="input_shape: expected a tuple of positive whole"):
            raynas.cost(toy, {}, input_shape=shape)  # type: ignore[arg-type]
    assert raynas.profile(toy, input_shape=(1, 4, 4), samples=1).size == 6


def test_a_model_itself_may_be_profiled() -> None:
    net = toy()
    found = raynas.profile(net, input_shape=(1, 4, 4), constraints="macs<0.2k")
    assert (found.name, found.size) == ("Sequential", 6)
    assert found.archs == raynas.profile(SPACE).archs
    assert found.archs[0].metrics["macs"] == 32


def test_costs_of_all_that_may_be_searched() -> None:
    arch = {"first": "one", "second": "five"}
    for what in (SPACE, toy, toy()):
        assert raynas.cost(what, arch, input_shape=(1, 4, 4)).macs == 16 * (1 + 25)
    assert raynas.cost(nn.Flatten, input_shape=(2, 2)).macs == 0
    macro = {f"layer{number}": "MB3E3" for number in range(1, 9)}
    space = raynas.space("nas_bench_macro")
    assert raynas.cost("nas_bench_macro", macro) == raynas.cost(space, macro)
    with pytest.raises(TypeError, match=r"expected a module, a ModelSpace, .* got 3"):
        raynas.cost(3)
    with pytest.raises(LookupError, match="did you mean 'nas_bench_macro'"):
        raynas.cost("nas_bench_makro")


def test_decisions_alike_are_one_row() -> None:
    text = str(raynas.profile("nas_bench_macro", samples=2))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "8 decisions" in lines
    assert "layer1 to layer8 (8) │ 1 │ identity, MB3E3, MB5E6" in lines
    assert "Costs of one example's pass, ranked by macs" in lines
    one = ModelSpace(
        lambda: nn.Sequential(next(toy().children())), input_shape=(1, 4, 4), name="one"
    )
    assert "\n1 decision\n" in "\n".join(
        line.strip() for line in str(raynas.profile(one, samples=2)).splitlines()
    )


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (10, 10), (3, 10), (500, 1000)])
def test_intervals_hold_their_share(hits: int, count: int) -> None:
    share, low, high = wilson(hits, count)
    assert 0 <= low <= share <= high <= 1
    # the ends are where the share lies 1.96 standard errors away: solved here by bisection
    for end, inner in ((low, False), (high, True)):
        if 0 < end < 1:
            deviation = abs(share - end) / (end * (1 - end) / count) ** 0.5
            assert deviation == pytest.approx(1.959964), inner


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    net = ["profile", "tests.test_profile:toy", "--input-shape", "1,4,4", "--samples", "50"]
    assert main([*net, "--constraint", "macs<20"]) == 0
    printed = capsys.readouterr().out
    assert "toy: 6 architectures" in printed
    assert "No architecture meets macs <= 20." in printed
    assert main([*net, "--constraint", "macs<few"]) == 2
    assert "'few' is no number" in capsys.readouterr().err
    assert main(net[:2]) == 2
    assert "--input-shape" in capsys.readouterr().err
    assert main(["profile", "mobilenet_v2_cifra"]) == 2
    assert "did you mean 'mobilenet_v2_cifar'?" in capsys.readouterr().err
    assert main(["profile", "mlp", "--space-option", "widht=[1]"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_latencies_that_a_run_measured_are_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "latency_cpu.json"  # as a run's folder holds it
    places = {"first": KERNELS[:2], "second": KERNELS}
    entries = [Entry((label,), (name,), 1.0) for label, names in places.items() for name in names]
    file.write_text(to_json([Entry((), (), 0.5), *entries]))
    net = ["profile", "tests.test_profile:toy", "--input-shape", "1,4,4", "--samples", "50"]
    bound = ["--constraint", "latency_ms<2"]
    assert main([*net, *bound, "--latency", str(file)]) == 0
    assert "No architecture meets latency_ms <= 2." in capsys.readouterr().out
    assert main([*net, *bound]) == 2
    assert "'cpu' or 'gpu' to measure one here, or a file, such as a run's latency_cpu.json" in (
        capsys.readouterr().err
    )


def test_constraints_may_be_objects() -> None:
    found = raynas.profile(SPACE, constraints=[Constraint("params", high=3)], samples=5)
    assert found.reaches[0].possible is True
    assert torch.get_default_dtype() == torch.float32


def test_what_stays_as_it_is_in_a_converted_model_is_told() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 8, 3), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.head(self.conv(x).relu().mean((2, 3)))
            return y

    torch.manual_seed(0)
    found = raynas.profile(raynas.elastic(Net(), torch.randn(2, 1, 5, 5), width=0.5))
    assert (found.name, found.size, found.exact) == ("Net", 2, True)
    assert [one.metrics["params"] for one in found.archs] == [55.0, 55.0, 107.0]
    told = found.conversion
    assert told is not None
    assert (told.kinds["width"], told.kinds["depth"]) == (1, 0)
    assert told.coverage == 104 / 107  # all but the head's bias
    reasons = {part.reason: part for part in told.fixed}
    assert reasons["it is part of the output"].tensors == ("head.bias",)
    assert reasons["it is part of the output"].weights == 3
    text = str(found)
    assert "97.2 % of the weights lie on elastic axes (1 width)." in text
    assert "it is part of the output" in text


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_hides_nothing(width: int) -> None:
    text = StringIO()
    shown = raynas.profile(ModelSpace(LongLabels, input_shape=(4,)))
    Console(file=text, width=width, color_system=None).print(shown)
    told = text.getvalue()
    assert "…" not in told
    assert {"first_candidate", "second_candidate", "third_candidate"} <= set(
        told.replace(",", " ").split()
    )


class LongLabels(nn.Module):
    """Of labels and candidates that take more than a line."""

    def __init__(self) -> None:
        super().__init__()
        names = ("first_candidate", "second_candidate", "third_candidate")
        label = ".".join(f"a_block_of_a_long_name_{number}" for number in range(3))
        self.layer = LayerChoice({name: nn.Linear(4, 2) for name in names}, label=label)

    def forward(self, x: Tensor) -> Tensor:
        """Return two numbers."""
        made: Tensor = self.layer(x)
        return made
