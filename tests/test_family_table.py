"""The table of families in the documents says what conversion does."""

from __future__ import annotations

import runpy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "conversion.py"))
FAMILIES = list(BENCHMARK["families"]())
PAGE = Path(__file__).parent.parent / "docs" / "existing_models.md"
QUICK = ("timm convnext_atto", "transformers Qwen3ForCausalLM")


@cache
def _told() -> dict[str, str]:
    """Return the lines of the table by their first cell."""
    lines = PAGE.read_text().split("| family |")[1].split("\n\n")[0].splitlines()[2:]
    return {line.split("|")[1].strip(): line for line in lines}


def test_all_families_are_in_the_table() -> None:
    assert list(_told()) == [name for name, _, _ in FAMILIES]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "made",
    [
        pytest.param(made, id=made[0], marks=() if made[0] in QUICK else pytest.mark.full)
        for made in FAMILIES
    ],
)
def test_a_family_is_as_the_table_says(made: Any) -> None:
    assert BENCHMARK["row"](made) == _told()[made[0]]
