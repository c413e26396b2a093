"""Imports of modules by the names of earlier releases: the error says the new one."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import pytest

from raynas.core.moved import MOVED, MovedModules, install
from tests.house import ROOT, project_files

MODULES = project_files(ROOT).keys()


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_is_refused_with_the_new_one(old: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=f"^{re.escape(f'{old} is {MOVED[old]} now')}$"):
        importlib.import_module(old)


@pytest.mark.parametrize("new", sorted({n for new in MOVED.values() for n in new.split(" and ")}))
def test_a_new_name_is_imported(new: str) -> None:
    assert importlib.import_module(new).__name__ == new


def test_no_entry_hides_a_module_that_stands_there_again() -> None:
    assert MOVED.keys() & MODULES == set()


@pytest.mark.parametrize(
    "statement",
    [
        "from raynas.report.progress import Line",
        "from raynas.report import progress",
        "import raynas.report.progress as progress",
    ],
)
def test_every_form_of_import_says_it(statement: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"^raynas\.report\.progress is raynas\."):
        exec(statement, {})


def test_a_module_that_never_was_is_not_found_as_ever() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'raynas\.attic'$") as caught:
        importlib.import_module("raynas.attic")
    assert caught.value.name == "raynas.attic"


def test_importing_raynas_asks_for_moved_modules_once_and_last() -> None:
    install()
    assert sys.meta_path.count(MovedModules) == 1
    code = "import raynas, sys; print(sys.meta_path[-1].__name__)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "MovedModules\n"
