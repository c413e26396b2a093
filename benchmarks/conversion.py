"""What becomes elastic of models that exist, and what that costs: families, ratios, switching.

Models are made with random weights, those of transformers small. Every ratio is of one run, both
sides in turns, by CPU seconds of one thread; the least of the rounds counts.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import raynas
from raynas.core.nest import Nest, call, taken
from raynas.costs import cost_of
from raynas.costs.coverage import converted
from raynas.nn import activate, freeze
from raynas.nn.conversion.converted import Converted
from raynas.nn.mutable import activate_unchecked

SIDES = {"maxvit_rmlp_pico_rw_256": 256} | dict.fromkeys(
    ("swin_tiny_patch4_window7_224", "levit_128s", "coat_tiny", "hiera_tiny_224"), 224
)
TORCHVISION = [
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "densenet121",
    "convnext_tiny",
    "shufflenet_v2_x1_0",
    "regnet_y_400mf",
    "vgg11_bn",
    "swin_t",
    "vit_b_16",
]
TIMM = [
    "vit_tiny_patch16_224",
    "convnext_atto",
    "resnetv2_50",
    "levit_128s",
    "swin_tiny_patch4_window7_224",
    "mobilenetv4_conv_small",
    "maxvit_rmlp_pico_rw_256",
    "hiera_tiny_224",
    "repvit_m0_9",
    "resnext50_32x4d",
    "efficientvit_b0",
    "mobilevit_xxs",
    "coat_tiny",
    "xcit_nano_12_p16_224",
    "resnetv2_50x1_bit",
    "nf_regnet_b0",
]
SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "intermediate_size": 160,
}
GROUPED = SIZES | {"num_key_value_heads": 4}
GPT2 = {"vocab_size": 96, "n_embd": 64, "n_layer": 3, "n_head": 8, "n_positions": 64}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "BertForSequenceClassification": SIZES,
    "DistilBertForSequenceClassification": {
        "vocab_size": 96,
        "dim": 64,
        "n_layers": 3,
        "n_heads": 8,
        "hidden_dim": 160,
    },
    "GPT2LMHeadModel": GPT2,
    "LlamaForCausalLM": GROUPED,
    "MixtralForCausalLM": GROUPED | {"num_local_experts": 4},
    "Qwen3ForCausalLM": GROUPED | {"head_dim": 8},
    "Phi3ForCausalLM": GROUPED,
    "T5ForConditionalGeneration": {
        "vocab_size": 96,
        "d_model": 64,
        "d_kv": 8,
        "d_ff": 160,
        "num_layers": 3,
        "num_heads": 8,
    },
    "ViTForImageClassification": {k: v for k, v in SIZES.items() if k != "vocab_size"}
    | {"image_size": 64},
}
ROUNDS, SWITCHES, ARCHS = 15, 50, 8
Made = tuple[str, Callable[[], nn.Module], Nest]


def images(rows: int, side: int) -> Tensor:
    """Return noise, shape (rows, 3, side, side)."""
    return torch.randn(rows, 3, side, side, generator=torch.Generator().manual_seed(0))


def words(rows: int, length: int) -> Tensor:
    """Return tokens, shape (rows, length)."""
    return torch.randint(2, 96, (rows, length), generator=torch.Generator().manual_seed(0))


def of_torchvision(name: str) -> nn.Module:
    """Return a model of torchvision, for images of 64 pixels."""
    import torchvision

    options = {"image_size": 64} if name.startswith("vit") else {}
    model: nn.Module = getattr(torchvision.models, name)(weights=None, **options)
    return model


def of_timm(name: str) -> nn.Module:
    """Return a model of timm."""
    import timm

    options: dict[str, Any] = {"img_size": 64} if name.startswith("vit_tiny") else {}
    model: nn.Module = timm.create_model(name, **options)
    return model


def of_transformers(name: str, **sizes: Any) -> nn.Module:
    """Return a small model of transformers."""
    import transformers

    kind: Any = getattr(transformers, name)
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 0}
    config = kind.config_class(**sizes, **(ends if "vocab_size" in sizes else {}))
    config.use_cache = False
    model: nn.Module = kind(config)
    return model


def families() -> Iterator[Made]:
    """Yield names, what makes the models, and their examples."""
    for name in TORCHVISION:
        yield f"torchvision {name}", lambda n=name: of_torchvision(n), images(4, 64)  # type: ignore[misc]
    for name in TIMM:
        side = SIDES.get(name, 64)
        yield f"timm {name}", lambda n=name: of_timm(n), images(4, side)  # type: ignore[misc]
    for name, sizes in TRANSFORMERS.items():
        example: Nest = {"input_ids": words(4, 12)}
        if name.startswith("T5"):
            example = {"input_ids": words(4, 12), "decoder_input_ids": words(4, 7)}
        elif name.startswith("ViT"):
            example = images(4, 64)
        make = lambda n=name, s=sizes: of_transformers(n, **s)  # noqa: E731
        yield f"transformers {name}", make, example


def elastic(model: nn.Module, example: Nest) -> Any:
    """Return the space of all that is elastic in a model."""
    return raynas.elastic(model, example, width=True, heads=True, ffn=True, depth=True, kernel=[3])


def row(made: Made) -> str:
    """Return a family's line of the table."""
    name, make, example = made
    torch.manual_seed(0)
    model = make().eval()
    space = elastic(model, example)
    kinds = converted(space.plan, model).kinds
    net = space.supernet().eval()
    smallest = space.arch_space.decided(lambda decision: decision.options[-1])
    one = taken(example, slice(1))
    few, all_of_it = cost_of(freeze(net, smallest), one), cost_of(model, one)
    cells = (
        name,
        ", ".join(map(str, kinds.values())),
        f"10^{len(str(int(space.arch_space.size()))) - 1}",
        f"{100 * space.coverage:.1f} %",
        f"{few.params / 1e6:.3g} to {all_of_it.params / 1e6:.3g}",
        f"{few.macs / 1e6:.3g} to {all_of_it.macs / 1e6:.3g}",
    )
    return f"| {' | '.join(cells)} |"


def table(only: str) -> None:
    """Print what becomes elastic of each family."""
    print("| family | width, heads, ffn, kernel, depth | networks | coverage ", end="")
    print("| params, millions | MACs, millions |\n|---|---|---|---|---|---|")
    for made in families():
        if only in made[0]:
            print(row(made), flush=True)
            gc.collect()


def seconds(run: Callable[[], object]) -> float:
    """Return the CPU seconds of a run."""
    began = time.process_time()
    run()
    return time.process_time() - began


def ratio(ours: Callable[[], object], theirs: Callable[[], object]) -> float:
    """Return the least of one's times over the other's, in turns."""
    ours(), theirs()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)]
    return min(p[0] for p in pairs) / min(p[1] for p in pairs)


def passes(net: nn.Module, example: Nest, backward: bool) -> Callable[[], None]:
    """Return a pass, forward alone or forward and backward."""

    def run() -> None:
        net.zero_grad(set_to_none=True)
        with torch.set_grad_enabled(backward):
            out = call(net, example)
            out = out if isinstance(out, Tensor) else out["logits"]
            if backward:
                out.square().mean().backward()

    return run


def overhead(name: str, model: nn.Module, example: Nest) -> None:
    """Print what an active subnet takes over its extraction, and what its supernet holds."""
    space = elastic(model.eval(), example)
    net, rng = space.supernet(), np.random.default_rng(0)
    ratios: dict[str, list[float]] = {"forward": [], "forward and backward": []}
    for _ in range(ARCHS):
        arch = space.arch_space.sample(rng)
        activate(net, arch)
        plain = freeze(net, arch).train()
        net.train()
        for several, backward in zip(ratios.values(), (False, True), strict=True):
            several.append(ratio(passes(net, example, backward), passes(plain, example, backward)))
    for what, several in ratios.items():
        every = " ".join(f"{value:.2f}" for value in sorted(several))
        print(f"{name}: {what} {statistics.mean(several):.3f} (goal 1.1), of each: {every}")
    own = held_bytes(model)
    places = [at for axis in space.plan.axes.values() for at in axis.places.values()]
    storages = [t.untyped_storage() for t in places]
    added = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
    print(f"{name}: supernet over model, bytes {(held_bytes(net) + added) / own:.4f} (goal 1.05)")


def held_bytes(model: nn.Module) -> int:
    """Return the bytes of parameters and buffers."""
    return sum(t.untyped_storage().nbytes() for t in (*model.parameters(), *model.buffers()))


def switching(name: str, space: Any) -> None:
    """Print the microseconds of a switch, to new architectures and to what was active before."""
    archs = [space.arch_space.sample(np.random.default_rng(at)) for at in range(SWITCHES)]
    for what, set_active in (("activate", activate), ("without its check", activate_unchecked)):
        net = space.supernet()

        def switch(net: nn.Module = net, set_active: Any = set_active) -> None:
            for arch in archs:
                set_active(net, arch)

        new = seconds(switch) / SWITCHES * 1e6
        again = min(seconds(switch) for _ in range(ROUNDS)) / SWITCHES * 1e6
        elastic_modules = sum(isinstance(module, Converted) for module in net.modules())
        print(f"{name}, {elastic_modules} elastic modules: {what} takes {again:.0f} us, ", end="")
        print(f"to new architectures {new:.0f} us (goal 100)", flush=True)


def ratios() -> None:
    """Print the ratios of active subnets, and of switching."""
    overhead("resnet18", of_torchvision("resnet18"), images(16, 64))
    overhead("GPT-2", of_transformers("GPT2LMHeadModel", **GPT2), {"input_ids": words(16, 64)})


def deep() -> None:
    """Print what switching deep models takes."""
    layers = GROUPED | {"num_hidden_layers": 100, "hidden_size": 32, "intermediate_size": 48}
    llama = of_transformers("LlamaForCausalLM", **layers)
    switching("resnet101", elastic(of_torchvision("resnet101").eval(), images(4, 64)))
    switching("llama of 100 layers", elastic(llama.eval(), {"input_ids": words(4, 12)}))


PARTS = {"ratios": ratios, "deep": deep}


def main() -> None:
    """Print the table, or the ratios, or what switching deep models takes; all of it by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="table | ratios | deep")
    parser.add_argument("--only", default="", help="part of the names of families")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    if not args.parts or "table" in args.parts:
        table(args.only)
    for name, print_part in PARTS.items():
        if not args.parts or name in args.parts:
            print_part()


if __name__ == "__main__":
    main()
