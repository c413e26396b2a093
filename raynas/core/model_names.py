"""Names of models that other libraries build, such as ``timm:resnet18``."""

from __future__ import annotations

LIBRARIES = ("timm", "torchvision", "hf")


def is_model_name(name: object) -> bool:
    """Return whether a name is of a model that another library builds.

    >>> is_model_name("timm:resnet18"), is_model_name("mlp"), is_model_name("my_module:Net")
    (True, False, False)
    """
    return isinstance(name, str) and name.partition(":")[0] in LIBRARIES and ":" in name


def is_own_path(name: str) -> bool:
    """Return whether a name is the import path of something of a user's own.

    >>> is_own_path("my_module:Net"), is_own_path("mlp"), is_own_path("hf:LlamaForCausalLM")
    (True, False, False)
    """
    return ":" in name and not is_model_name(name)
