"""The phases of SMASH's proposals."""

from __future__ import annotations

from typing import Any

import pytest

from raynas.algorithms.perturbation import Perturbation
from raynas.core.arch import Arch
from raynas.core.archspace import ArchSpace
from raynas.core.trial import Trial

SPACE = ArchSpace.of(**{f"c{i}": list(range(9)) for i in range(8)})


def total(arch: Arch) -> float:
    return float(sum(int(str(value)) for value in arch.values()))


def apart(first: Arch, second: Arch) -> int:
    return sum(first[label] != second[label] for label in first)


def test_random_then_near_the_best_of_those_then_a_walk_uphill() -> None:
    """Perturbations stay around the best random one also when one of them is better."""
    sampler = Perturbation(SPACE, seed=0, random=10, perturbations=20)
    told: list[Arch] = []
    for asked in range(90):
        arch = sampler.ask()
        if asked < 10:
            assert sampler.origin.parent is None
        else:
            centre = max(told[:10] if asked < 30 else told, key=total)
            assert apart(arch, centre) == 1
            assert sampler.origin.parent == centre.key
        told.append(arch)
        sampler.tell(Trial.completed(arch, total(arch)))
    assert max(map(total, told[10:30])) > max(map(total, told[:10]))
    assert max(map(total, told[30:])) > max(map(total, told[:30])) + 5


@pytest.mark.parametrize("changes", [1, 2, 3])
def test_so_many_decisions_change(changes: int) -> None:
    sampler = Perturbation(SPACE, seed=1, random=1, changes=changes)
    first = sampler.ask()
    sampler.tell(Trial.completed(first, 0.0))
    distances = [apart(sampler.ask(), first) for _ in range(15)]
    assert max(distances) == changes  # 15 all short of it: below 0.35^15 = 1e-7
    assert min(distances) >= 1


def test_it_stays_random_until_something_is_scored() -> None:
    sampler = Perturbation(SPACE, seed=2, random=2)
    for _ in range(4):
        arch = sampler.ask()
        assert sampler.origin.parent is None
        sampler.tell(Trial.failed(arch, "no memory"))
    sampler.tell(Trial.completed(arch, 1.0))
    assert apart(sampler.ask(), arch) == 1


@pytest.mark.parametrize("options", [{"random": 0}, {"perturbations": -1}, {"changes": 0}])
def test_settings_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"expected {name} >= .*, got {value}"):
        Perturbation(SPACE, seed=0, **options)
