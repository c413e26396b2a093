"""The release of raynas, and those of the packages that a run's numbers depend on."""

from __future__ import annotations

from contextlib import suppress

VERSION = "0.1.0"
PACKAGES = ("torch", "ray", "numpy")
MODELS = ("timm", "torchvision", "transformers")  # of which not all need be installed


def versions() -> dict[str, str]:
    """Return the releases that a run folder records."""
    from importlib.metadata import PackageNotFoundError, version  # a tenth of a second to import

    found = {"raynas": VERSION} | {name: version(name) for name in PACKAGES}
    for name in MODELS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
