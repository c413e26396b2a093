"""What conversions take: CPU seconds by stage of one thread, and how often the model runs.

Reading is copying the model, running it on the example and finding axes; trying is all laws; the
rest are the supernet's copy and the guard. Peaks are of Python's own memory, which labels are not.
"""

from __future__ import annotations

import argparse
import gc
import time
import tracemalloc
import warnings
from collections.abc import Iterator

import torch
from conversion import (
    GROUPED,
    Made,
    families,
    held_bytes,
    images,
    of_timm,
    of_torchvision,
    of_transformers,
    seconds,
    words,
)
from torch import nn

from raynas.core.nest import Nest, call
from raynas.nn.conversion.convert import Conversion
from raynas.nn.conversion.elastic_space import ElasticSpace
from raynas.nn.conversion.request import read_request

LLAMA = GROUPED | {"num_hidden_layers": 100, "hidden_size": 32, "intermediate_size": 48}


def deep() -> Iterator[Made]:
    """Yield models of a hundred layers, and such as took longest once."""
    yield "torchvision resnet101", lambda: of_torchvision("resnet101"), images(4, 64)
    example: Nest = {"input_ids": words(4, 12)}
    make = lambda: of_transformers("LlamaForCausalLM", **LLAMA)  # noqa: E731
    yield "transformers Llama of 100 layers", make, example
    for name in ("vgg11", "swin_t", "densenet121", "vit_b_16"):
        yield f"torchvision {name}", lambda n=name: of_torchvision(n), images(4, 64)  # type: ignore[misc]
    for name in ("levit_128s", "swin_tiny_patch4_window7_224", "coat_tiny", "maxvit_tiny_tf_224"):
        yield f"timm {name}", lambda n=name: of_timm(n), images(4, 224)  # type: ignore[misc]


def row(name: str, model: nn.Module, example: Nest) -> str:
    """Return a model's line of the table."""
    passes: list[nn.Module] = []
    model.register_forward_pre_hook(lambda module, _args: passes.append(module))
    request = read_request(width=True, heads=True, ffn=True, depth=True, kernel=[3])
    with torch.no_grad():
        one = min(seconds(lambda: call(model, example)) for _ in range(3))
    passes.clear()
    began, wall = time.process_time(), time.perf_counter()
    conversion = Conversion(model, example, request)
    read = time.process_time()
    conversion.plan()
    tried = time.process_time()
    wall, ran = time.perf_counter() - wall, len(passes)
    del conversion
    whole = seconds(lambda: ElasticSpace(model, example, request))
    numbers = [f"{value:.2f}" for value in (read - began, tried - read, whole, one)]
    return f"| {name} | {' | '.join(numbers)} | {ran} | {wall:.1f} |"


def peak(model: nn.Module, example: Nest) -> str:
    """Return the most memory that a conversion takes in Python beside tensors."""
    request = read_request(width=True, heads=True, ffn=True, depth=True, kernel=[3])
    tracemalloc.start()
    ElasticSpace(model, example, request)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return f"peak {most / 1e6:.0f} MB, weights {held_bytes(model) / 1e6:.0f} MB"


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the models' names; else the deep ones")
    parser.add_argument("--peak", action="store_true", help="memory instead, which is slow")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    made = {name: (make, example) for name, make, example in (*families(), *deep())}
    chosen = [name for name, _, _ in deep()]
    if given.names:
        chosen = [name for name in made if any(part in name for part in given.names)]
    if not given.peak:
        print("| model | reading | trying | all | one pass | passes | s |\n" + "|---" * 7 + "|")
    for name in chosen:
        make, example = made[name]
        torch.manual_seed(0)
        model = make().eval()
        line = f"{name}: {peak(model, example)}" if given.peak else row(name, model, example)
        print(line, flush=True)
        del model
        gc.collect()


if __name__ == "__main__":
    main()
