"""Two processes of one gloo group, and what each of them found."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

WORLD = 2
# Imported once, by a process that all ranks are forked from: most of what a short test takes.
SLOW_IMPORTS = ["torch._dynamo", "ray.tune", "raynas.supernet.training"]


def on_two_ranks(find: Callable[[int], Any], folder: Path) -> list[Any]:
    """Return what ``find``, a function of a module, gives for each rank in a process of its own."""
    multiprocessing.set_forkserver_preload(SLOW_IMPORTS)
    start_processes(_rank_main, (find, str(folder)), nprocs=WORLD, start_method="forkserver")
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(WORLD)]


def _rank_main(rank: int, find: Callable[[int], Any], folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD)
    torch.save(find(rank), f"{folder}/rank{rank}.pt")
    dist.barrier()
    # A thread of gloo outlives its group and may hold a tensor; one that it lets go of while the
    # interpreter ends aborts the process.
    os._exit(0)
