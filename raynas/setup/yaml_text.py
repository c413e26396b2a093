"""YAML as people write it."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """Reads plain values only, and 3e-4 as a number, which PyYAML takes for a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)(?:[eE][-+]?[0-9]+)$"),
    list("-+0123456789."),
)


def read_yaml(text: str) -> Any:
    """Return what a text in YAML holds.

    Raises:
        yaml.YAMLError: it is none, or holds tags of anything but plain values.
    """
    return yaml.load(text, _Loader)  # a SafeLoader: nothing is executed
