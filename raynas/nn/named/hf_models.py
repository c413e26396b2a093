"""Models of transformers: of a class, of a configuration's class, or of a local folder."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from raynas.core.errors import UnknownName, nearest
from raynas.nn.named.load_network import CONFIG
from raynas.nn.named.wanted import Recipe, Wanted, library, nearest_model, refuse_downloads

PREFIX = "hf"
EXTRA = "transformers"
FETCHED = (
    "trust_remote_code",
    "attn_implementation",
    "auto_map",
    "quantization_config",
    "revision",
)
# which model a configuration's class stands for: of these, the first that there is
HEADS = (
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_MAPPING_NAMES",
)
IMAGES, LENGTH = "pixel_values", 16


def recipe(wanted: Wanted) -> Recipe:
    """Return how a model is built.

    Raises:
        ModuleNotFoundError: transformers is not installed.
        UnknownName: it has no such class, or the folder's model is none of its own.
        ValueError: an option that the configuration has not, or that would run other code.
    """
    transformers = library("transformers", EXTRA)
    refuse_downloads(f"{PREFIX}:{wanted.name}", wanted.options, FETCHED)
    if is_folder(wanted.name):
        kept = _kept_configuration(wanted.name)
        name = (kept.get("architectures") or ["?"])[0]
        model_class = _class(transformers, name, f"{wanted.name} is of a model")
        config_class = model_class.config_class
        started = {k: v for k, v in kept.items() if k not in (*FETCHED, "per_layer_config")}
    else:
        model_class = _class(transformers, wanted.name, "transformers has no model")
        config_class, started = model_class.config_class, {}
    facts = _facts(wanted, model_class, config_class)
    if is_folder(wanted.name):  # its weights are of its own sizes, but for a classifier's
        facts = {key: value for key, value in facts.items() if key == "num_labels"}
    options = facts | dict(wanted.options)
    config = _configuration(config_class, started, options, f"{PREFIX}:{wanted.name}")
    return {
        "library": "transformers",
        "name": model_class.__name__,
        "config_class": config_class.__name__,
        "config": config,
        "options": options,
    }


def is_folder(name: str) -> bool:
    """Return whether a name is of a local folder with a configuration in it."""
    return (Path(name) / CONFIG).is_file()


def _kept_configuration(folder: str) -> dict[str, Any]:
    kept = json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))
    if not isinstance(kept, dict):
        raise ValueError(f"{folder}/{CONFIG}: expected an object, got a {type(kept).__name__}")
    return kept


def _class(transformers: Any, name: str, otherwise: str) -> Any:
    """Return the class of a model by its own name, or by that of its configuration."""
    found: Any = getattr(transformers, name, None) if name.isidentifier() else None
    base = transformers.PreTrainedConfig
    if isinstance(found, type) and issubclass(found, base):
        name = _head(str(vars(found)["model_type"])) or name
        found = getattr(transformers, name, None)
    if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
        return found
    if "/" in name or "." in name:
        raise FileNotFoundError(
            f"{PREFIX}:{name}: there is no folder {name} with a {CONFIG}; nothing is downloaded"
        )
    hint = nearest_model(PREFIX, name, names())
    raise UnknownName(f"{otherwise} named {name!r}; {hint}")


def _head(model_type: str) -> str | None:
    from transformers.models.auto import modeling_auto

    for heads in HEADS:
        name = vars(modeling_auto)[heads].get(model_type)
        if name is not None:
            return str(name if isinstance(name, str) else name[0])
    return None


def names() -> list[str]:
    """Return the classes of models, and of configurations, that are found by their names."""
    from transformers.models.auto import modeling_auto

    found = set(vars(modeling_auto)["CONFIG_MAPPING_NAMES"].values())
    for heads in HEADS:
        for name in vars(modeling_auto)[heads].values():
            found |= {name} if isinstance(name, str) else set(name)
    return sorted(found)


def _facts(wanted: Wanted, model_class: Any, config_class: Any) -> dict[str, Any]:
    """Return what data say of a configuration, in its own words."""
    if model_class.main_input_name == IMAGES:
        facts = {"num_labels": wanted.num_classes, "num_channels": wanted.in_channels}
        facts["image_size"] = wanted.resolution
    elif "Classification" in model_class.__name__:
        facts = {"num_labels": wanted.num_classes}
    else:
        facts = {"vocab_size": wanted.num_classes}
    known = _fields(config_class)
    return {k: v for k, v in facts.items() if v is not None and (k in known or k == "num_labels")}


def _fields(config_class: Any) -> set[str]:
    parameters = set(inspect.signature(config_class.__init__).parameters) - {"self", "kwargs"}
    return parameters | set(config_class.attribute_map)


def _configuration(
    config_class: Any, started: Mapping[str, Any], options: Mapping[str, Any], name: str
) -> dict[str, Any]:
    """Return a configuration as a plain dict, all of whose options mean something.

    A model that remembers keys and values does so where it generates; here it would only be slower.
    Special tokens that stand in the class alone, beyond a smaller vocabulary, are left out.
    """
    known = _fields(config_class) | {"num_labels"}
    for key in options:
        if key not in known:
            raise ValueError(f"{name} has no option {key!r}; {nearest(key, known)}")
    defaults = {"use_cache": False} if "use_cache" in known else {}
    given = {**started, **defaults, **options}
    made = config_class(**{**_without_tokens(config_class, given.get("vocab_size")), **given})
    config: dict[str, Any] = json.loads(made.to_json_string(use_diff=False))
    return config


def _without_tokens(config_class: Any, tokens: Any) -> dict[str, None]:
    """Return, as None, the default special tokens that a vocabulary of so many does not have."""
    if not isinstance(tokens, int):
        return {}
    parameters = inspect.signature(config_class.__init__).parameters.values()
    special = [p for p in parameters if p.name.endswith("_token_id")]
    return {p.name: None for p in special if isinstance(p.default, int) and p.default >= tokens}


def example_signature(model: Any) -> Any:
    """Return the signature of an example: of images, or of token ids."""
    config = model.config
    if model.main_input_name == IMAGES:
        side = config.image_size
        height, width = side if isinstance(side, tuple | list) else (side, side)
        return {"shape": [config.num_channels, height, width], "dtype": "float32"}
    longest = config.to_dict().get("max_position_embeddings") or LENGTH
    ids = {"shape": [min(LENGTH, longest)], "dtype": "int64"}
    if not config.is_encoder_decoder:
        return ids
    return {"keywords": {"input_ids": ids, "decoder_input_ids": ids}}


def with_folder_weights(folder: str, model: nn.Module) -> nn.Module:
    """Return a model with the weights of a local folder.

    What has another number of classes than the folder's keeps its initial weights.

    Args:
        folder: with safetensors in it.
        model: of its configuration, maybe with another number of classes.

    Raises:
        ValueError: the folder holds no safetensors, or weights of another model.
    """
    kind: Any = type(model)
    try:
        loaded, about = kind.from_pretrained(
            folder,
            config=model.config,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            dtype="float32",
        )
    except OSError as error:
        raise ValueError(f"{PREFIX}:{folder} holds no weights as safetensors: {error}") from error
    head = {name for name, *_ in about["mismatched_keys"]}
    labels = loaded.config.num_labels
    heads = {name for name, weight in model.named_parameters() if len(weight) == labels}
    if wrong := sorted((head - heads) | set(about["missing_keys"])):
        raise ValueError(
            f"{PREFIX}:{folder} has no weights, or none of that shape, of {', '.join(wrong[:5])}"
        )
    whole: nn.Module = loaded.train()
    return whole


def tokens_of(model: Any) -> int:
    """Return how many tokens a model knows."""
    return int(model.config.get_text_config().vocab_size)


def description(recipe: Recipe) -> str:
    """Return whose model it is."""
    return f"{recipe['name']} of transformers, configured by {recipe['config_class']}."


def default_options(recipe: Recipe) -> dict[str, Any]:
    """Return the options of the model's configuration, with what they are."""
    config_class = getattr(library("transformers", EXTRA), recipe["config_class"])
    parameters = inspect.signature(config_class.__init__).parameters.values()
    own = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    return {name: recipe["config"].get(name) for name in own}
