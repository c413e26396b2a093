"""What raynas needs to run is under licences that let anybody use it."""

from __future__ import annotations

import tomllib

import pytest

from tests.audit import PROJECT, fault_of, licences_are_right, needed


def test_every_licence_of_what_is_needed_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    packages = needed(tomllib.loads(PROJECT.read_text())["project"]["dependencies"])
    assert {"numpy", "ray", "torch", "aiohttp"} <= packages.keys()  # the last through ray[default]
    right = licences_are_right(packages)
    printed = capsys.readouterr().out
    assert right, printed
    assert len(printed.splitlines()) == len(packages)


@pytest.mark.parametrize(
    ("licence", "fault"),
    [
        ("MIT", None),
        ("MIT OR GPL-2.0-only", None),
        ("GNU Lesser General Public License v3 (LGPLv3)", None),
        ("LGPL-2.1", None),
        ("MIT AND GPL-3.0", "copyleft alone"),
        ("AGPL-3.0-only", "copyleft alone"),
        ("GNU Affero General Public License v3", "copyleft alone"),
        ("Other/Proprietary License", "unknown"),
        ("", "unknown"),
    ],
)
def test_licences_that_bind_and_unknown_ones_are_faults(licence: str, fault: str | None) -> None:
    assert fault_of(licence) == fault
