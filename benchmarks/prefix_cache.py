"""How much faster subnets are scored when those that begin alike share what they begin with.

A sampler proposes subnets, which are scored one by one: without a cache, and by one scorer per size
of the cache, all in turns, so that a busy machine slows all of them alike. CPU seconds of one
thread, the sampler's own not included. Checked: all scores are the same bit for bit. The supernet's
weights are random, which sets the scores and so the sampler's way, but not the time of a subnet.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor, nn

import raynas
from raynas.core.sampler import SAMPLERS
from raynas.core.trial import Trial
from raynas.data.digits import Digits
from raynas.supernet.scoring import SubnetScorer

WIDTH = 0.25
SIZES_MB = (0, 128)
GOALS = {"regularized_evolution": 2.5, "predictor": 1.7}
IMAGES = ((256, 400), (512, 400), (512, 2000))  # to calibrate, to validate; the last are defaults


def supernet(name: str) -> tuple[raynas.ModelSpace, nn.Module]:
    """Return a space, and its supernet with blocks that contribute from the start."""
    space = raynas.space(name, in_channels=1, resolution=16, width=WIDTH)
    model = space.supernet(0)
    rng = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0, rng)
    return space, model.to(memory_format=torch.channels_last)  # as training leaves it


def repeated(examples: tuple[Tensor, Tensor], count: int) -> tuple[Tensor, Tensor]:
    """Return so many examples, some more than once if there are fewer."""
    at = torch.arange(count) % len(examples[1])
    return examples[0][at], examples[1][at]


def compare(
    space: str, algorithm: str, images: tuple[int, int], trials: int, sizes: list[int]
) -> None:
    """Print one line per size of the cache."""
    model_space, model = supernet(space)
    splits = Digits().load()
    scorers = [
        SubnetScorer(
            model,
            splits.train,
            repeated(splits.valid, images[1]),
            calibration_images=images[0],
            validation_images=images[1],
            cache_bytes=size * 2**20,
        )
        for size in sizes
    ]
    sampler = SAMPLERS[algorithm](model_space.arch_space, seed=0)
    seconds = [0.0] * len(sizes)
    for number in range(trials):
        arch = sampler.ask()
        scores = []
        for at, scorer in enumerate(scorers):
            began = time.process_time()
            scores.append(scorer.score(arch))
            seconds[at] += time.process_time() - began
        if any(score != scores[0] for score in scores):
            raise SystemExit(f"trial {number}: {scores} differ")
        sampler.tell(Trial.completed(arch, scores[0]["accuracy"]))
    print(f"{space}, {algorithm}, {images[0]} + {images[1]} images, {trials} subnets")
    for size, scorer, spent in zip(sizes, scorers, seconds, strict=True):
        cache = scorer.cache
        rate = cache.hits / (cache.hits + cache.misses)
        print(
            f"{size:6} MB: {spent / trials * 1000:6.1f} ms a subnet, {seconds[0] / spent:5.2f}x, "
            f"{rate:4.0%} of the stages spared, {cache.held_bytes / 2**20:5.1f} MB held"
        )


def main() -> None:
    """Print the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--spaces", nargs="+", default=["mobilenet_v2_cifar_gpu"])
    parser.add_argument("--algorithms", nargs="+", default=list(GOALS))
    parser.add_argument("--images", type=int, choices=range(len(IMAGES)), nargs="+", default=[0, 2])
    parser.add_argument("--sizes-mb", type=int, nargs="+", default=SIZES_MB)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for space in given.spaces:
        for algorithm in given.algorithms:
            for at in given.images:
                compare(space, algorithm, IMAGES[at], given.trials, [*given.sizes_mb])
    print(f"goals at 128 MB: {GOALS}")


if __name__ == "__main__":
    main()
