"""Licences of what raynas needs to run, and, where pip-audit is installed, known vulnerabilities.

``python tests/audit.py`` exits with 1 if a licence is unknown or copyleft alone, or a release has a
known vulnerability. A service of vulnerabilities that cannot be asked is said, and is no fault.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parent.parent / "pyproject.toml"
COPYLEFT = re.compile(r"(?<!L)(?<!Lesser )\bA?GPL|GNU (?:Affero )?General Public", re.IGNORECASE)
PERMISSIVE = re.compile(
    r"apache|\bbsd|\bmit\b|\bisc\b|\bpsf|python software foundation|mozilla|\bmpl|unlicense|"
    r"\bzlib|\bhpnd|public domain|\bcnri|lgpl|lesser general public|\b0bsd|historical permission|"
    r"\bzpl|zope",
    re.IGNORECASE,
)
# CUDA, which torch needs on Linux, is under NVIDIA's own terms
VENDORS = re.compile(r"nvidia-|cuda-toolkit")
ASK_S = 120  # after which the service is taken to be out of reach


def needed(requirements: list[str]) -> dict[str, Distribution]:
    """Return the installed packages that requirements lead to, by name.

    Raises:
        PackageNotFoundError: one is not installed.
    """
    packages: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        marker, name = requirement.marker, canonicalize_name(requirement.name)
        if marker is not None and not marker.evaluate({"extra": extra}):
            continue
        packages[name] = package = distribution(name)
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                waiting += [(Requirement(text), wanted) for text in package.requires or ()]
    return dict(sorted(packages.items()))


def licence_of(package: Distribution) -> str:
    """Return what a package says of its licence in one line; empty if nothing."""
    about = package.metadata  # by get_all: where importlib_metadata reads it, [] raises a KeyError
    if expressions := about.get_all("License-Expression"):
        return str(expressions[0])
    classifiers = [c for c in about.get_all("Classifier") or () if c.startswith("License ::")]
    named = [c.rpartition(" :: ")[2] for c in classifiers if c != "License :: OSI Approved"]
    first = str((about.get_all("License") or [""])[0]).strip().partition("\n")[0]
    return " OR ".join(named) or first


def fault_of(licence: str) -> str | None:
    """Return what is wrong with a licence; None if nothing.

    >>> fault_of("MIT OR GPL-2.0"), fault_of("AGPL-3.0-only"), fault_of("")
    (None, 'copyleft alone', 'unknown')
    """
    ways = re.split(r"\s+OR\s+", licence)
    if any(PERMISSIVE.search(way) and not COPYLEFT.search(way) for way in ways):
        return None
    return "copyleft alone" if COPYLEFT.search(licence) else "unknown"


def licences_are_right(packages: dict[str, Distribution]) -> bool:
    """Print a table of licences, and return whether there is no fault."""
    right = True
    for name, package in packages.items():
        licence = licence_of(package)
        fault = None if VENDORS.match(name) else fault_of(licence)
        right = right and fault is None
        print(f"{name:32} {package.version:16} {licence[:60]}" + (f"  <- {fault}" if fault else ""))
    return right


def is_vulnerable(packages: dict[str, Distribution]) -> bool:
    """Ask pip-audit, and return whether it knows a vulnerability."""
    if importlib.util.find_spec("pip_audit") is None:
        print("vulnerabilities: not asked for, pip-audit is not installed")
        return False
    pins = "".join(f"{n}=={p.version.partition('+')[0]}\n" for n, p in packages.items())
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "requirements.txt")
        file.write_text(pins)
        given = ["--no-deps", "--disable-pip", "--progress-spinner=off", "-r", str(file)]
        try:
            asked = subprocess.run(
                [sys.executable, "-m", "pip_audit", *given],
                capture_output=True,
                text=True,
                timeout=ASK_S,
            )
        except subprocess.TimeoutExpired:
            print(f"vulnerabilities: the service did not answer in {ASK_S} s")
            return False
    if asked.returncode == 0:
        print("vulnerabilities: none is known")
        return False
    if re.search(r"^Found \d+ known vulnerabilit", asked.stderr, re.MULTILINE):
        print(asked.stdout)
        return True
    last = (asked.stderr.strip().splitlines() or ["no word"])[-1]
    print(f"vulnerabilities: the service could not be asked ({last[:160]})")
    return False


def main() -> int:
    """Check everything, and return the exit code."""
    listed = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    try:
        packages = needed(listed)
    except PackageNotFoundError as error:
        print(f"{error.name} is not installed: pip install -e .", file=sys.stderr)
        return 1
    right = licences_are_right(packages)
    vulnerable = is_vulnerable(packages)
    return 0 if right and not vulnerable else 1


if __name__ == "__main__":
    sys.exit(main())
