"""Which process runs which tests in `make test`: a group is one process's, and so is a file.

Under pytest 9.2 pytest-xdist's ``loadgroup`` groups nothing: it writes the groups into the ids of
tests, which no longer change (pytest-dev/pytest-xdist#1386). Here every process that has collected
writes the groups to a file, which the scheduler reads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

RAY = "ray"
_FOLDER = pytest.StashKey[str]()


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Give a process all tests of a group, or of a file those in no group; those of Ray first."""

    @cached_property
    def groups(self) -> dict[str, str]:
        """The groups of the tests that are in one, by the tests' ids."""
        text = (Path(self.config.stash[_FOLDER]) / "groups.json").read_text(encoding="utf-8")
        groups: dict[str, str] = json.loads(text)
        return groups

    def _split_scope(self, nodeid: str) -> str:
        return self.groups.get(nodeid) or nodeid.partition("::")[0]

    def _assign_work_unit(self, node: Any) -> None:
        if RAY in self.workqueue:  # it takes longest
            self.workqueue.move_to_end(RAY, last=False)
        super()._assign_work_unit(node)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process that is started where it writes the groups."""
    if _FOLDER not in node.config.stash:
        folder = TemporaryDirectory()
        node.config.add_cleanup(folder.cleanup)
        node.config.stash[_FOLDER] = folder.name
    node.workerinput["groups"] = node.config.stash[_FOLDER]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling | None:
    """Return the scheduler for ``--dist loadgroup``."""
    return GroupScheduling(config, log) if config.getvalue("dist") == "loadgroup" else None


def write_groups(items: Iterable[pytest.Item], config: pytest.Config) -> None:
    """Write the groups of the tests, where several processes run them."""
    if (folder := folder_of(config)) is not None:
        groups = {i.nodeid: mark.args[0] for i in items for mark in i.iter_markers("xdist_group")}
        part = folder / f"{os.getpid()}.part"
        part.write_text(json.dumps(groups), encoding="utf-8")
        part.replace(folder / "groups.json")


def check_alone(config: pytest.Config) -> None:
    """Raise an ``AssertionError`` if another process of this session has said that it has Ray."""
    if (folder := folder_of(config)) is not None:
        owner = folder / RAY
        if owner.exists() and runs(int(owner.read_text(encoding="utf-8"))):
            raise AssertionError(
                "two processes have a Ray for their tests: is a test that takes local_ray in no "
                f'group, such as one that asks for it as it runs? Mark it xdist_group("{RAY}")'
            )
        owner.write_text(str(os.getpid()), encoding="utf-8")


def runs(pid: int) -> bool:
    """Return whether there is a process of this number; what has crashed is replaced by another."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def folder_of(config: pytest.Config) -> Path | None:
    """Return the folder that the processes of this session share, None where there is but one."""
    given: dict[str, str] = getattr(config, "workerinput", {})
    return Path(given["groups"]) if "groups" in given else None
