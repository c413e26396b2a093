"""The release of raynas, and those of the packages that a run's numbers depend on."""

from __future__ import annotations

VERSION = "0.1.0"
PACKAGES = ("torch", "ray", "numpy")


def versions() -> dict[str, str]:
    """Return the releases that a run folder records."""
    from importlib.metadata import version  # a tenth of a second to import

    return {"raynas": VERSION} | {name: version(name) for name in PACKAGES}
