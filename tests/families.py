"""Small models of the families that people have, of random weights, never loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import convnext, efficientnet, regnet, swin_transformer

from raynas.core.nest import Nest

TOKENS, LENGTH = 48, 7


@dataclass(frozen=True)
class Family:
    """A kind of model, as small as it can be made.

    Attributes:
        make: builds one.
        example: makes inputs.
        coverage: the least share of its weights that has to lie on an elastic axis.
        labels: names of decisions that have to be there.
        smallest: the share of parameters that the smallest network may have at most.
    """

    make: Callable[[], Any]
    example: Callable[[], Nest]
    coverage: float = 0.99
    labels: tuple[str, ...] = field(default=())
    smallest: float = 0.7

    def build(self) -> nn.Module:
        """Return a model in float64 and evaluation mode, no two of whose weights are equal."""
        torch.manual_seed(0)
        model: nn.Module = self.make()
        rng = torch.Generator().manual_seed(1)
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point() and (
                "running" in name or isinstance(tensor, nn.Parameter)
            ):
                noise = torch.randn(tensor.shape, generator=rng)
                with torch.no_grad():
                    tensor.add_(0.1 * (noise.abs() if name.endswith("running_var") else noise))
        return model.double().eval()


def images(side: int = 32) -> Tensor:
    """Return two images in float64, shape (2, 3, side, side)."""
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(2)).double()


def _words(length: int = LENGTH) -> Tensor:
    return torch.randint(2, TOKENS, (2, length), generator=torch.Generator().manual_seed(3))


def _ids(*names: str) -> Nest:
    return {name: _words() for name in ("input_ids", *names)}


def _resnet() -> nn.Module:
    block = torchvision.models.resnet.Bottleneck
    made: nn.Module = torchvision.models.ResNet(
        block, [1, 2, 1, 1], num_classes=5, width_per_group=16
    )
    return made


def _efficientnet() -> nn.Module:
    settings = [
        efficientnet.MBConvConfig(1, 3, 1, 8, 8, 1, 1.0, 1.0),
        efficientnet.MBConvConfig(4, 3, 2, 8, 16, 2, 1.0, 1.0),
        efficientnet.MBConvConfig(4, 5, 2, 16, 24, 2, 1.0, 1.0),
    ]
    made: nn.Module = torchvision.models.EfficientNet(settings, dropout=0.1, num_classes=5)
    return made


def _convnext() -> nn.Module:
    settings = [convnext.CNBlockConfig(16, 32, 2), convnext.CNBlockConfig(32, None, 2)]
    made: nn.Module = torchvision.models.ConvNeXt(settings, num_classes=5)
    return made


def _regnet() -> nn.Module:
    settings = regnet.BlockParams.from_init_params(
        depth=5, w_0=16, w_a=12.0, w_m=2.0, group_width=8, se_ratio=0.25
    )
    made: nn.Module = torchvision.models.RegNet(settings, num_classes=5, stem_width=16)
    return made


def _timm(name: str, **options: Any) -> nn.Module:
    import timm

    made: nn.Module = timm.create_model(name, num_classes=5, **options)
    return made


def _bit() -> nn.Module:
    from timm.layers.norm_act import GroupNormAct
    from timm.layers.std_conv import StdConv2d
    from timm.models.resnetv2 import ResNetV2

    made: nn.Module = ResNetV2(
        [1, 1, 1, 1],
        (32, 64, 64, 128),
        num_classes=5,
        stem_type="fixed",
        conv_layer=partial(StdConv2d, eps=1e-8),
        norm_layer=partial(GroupNormAct, num_groups=8),
    )
    return made


def _hugging(kind: str, **options: Any) -> nn.Module:
    import transformers

    family = kind.partition("For")[0].removesuffix("LMHeadModel")
    config = getattr(transformers, f"{family}Config")
    attention = options.pop("attention", "sdpa")
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    if "vocab_size" in options:
        options |= ends
    settings = config(**options, attn_implementation=attention)
    settings.use_cache = False
    made: nn.Module = getattr(transformers, kind)(settings)
    return made


VISION = {
    "torchvision resnet": Family(_resnet, images, labels=("conv1.width", "layer2.1.depth")),
    "torchvision mobilenet_v2": Family(
        partial(torchvision.models.MobileNetV2, num_classes=5, width_mult=0.25), images
    ),
    "torchvision mobilenet_v3": Family(
        partial(torchvision.models.mobilenet_v3_small, num_classes=5, width_mult=0.25), images
    ),
    "torchvision efficientnet": Family(_efficientnet, images),
    "torchvision convnext": Family(_convnext, images),
    "torchvision regnet": Family(_regnet, images),
    "torchvision shufflenet": Family(
        partial(torchvision.models.ShuffleNetV2, [2, 2, 2], [8, 16, 32, 64, 64], num_classes=5),
        images,
        labels=("stage2.1.branch2.5.width",),
    ),
    "torchvision densenet": Family(
        partial(torchvision.models.DenseNet, 8, (2, 3, 2), num_init_features=16, num_classes=5),
        images,
    ),
    "torchvision vit": Family(
        partial(torchvision.models.VisionTransformer, 32, 8, 2, 4, 32, 64, num_classes=5),
        images,
    ),
    "torchvision swin": Family(
        partial(
            swin_transformer.SwinTransformer, [4, 4], 32, [2, 2], [4, 8], [4, 4], num_classes=5
        ),
        images,
    ),
}
TIMM = {
    "timm vit": Family(
        partial(
            _timm,
            "vit_tiny_patch16_224",
            img_size=32,
            patch_size=8,
            embed_dim=32,
            depth=2,
            num_heads=4,
        ),
        images,
        labels=("blocks.0.attn.heads", "blocks.1.mlp.ffn"),
    ),
    "timm vit_register_swiglu": Family(
        partial(
            _timm,
            "vit_small_patch14_reg4_dinov2",
            img_size=32,
            patch_size=8,
            embed_dim=32,
            depth=2,
            num_heads=4,
        ),
        images,
    ),
    "timm convnext": Family(
        partial(_timm, "convnext_atto", dims=(8, 16, 24, 32), depths=(1, 1, 2, 1)), images
    ),
    "timm convnextv2": Family(
        partial(_timm, "convnextv2_atto", dims=(8, 16, 24, 32), depths=(1, 1, 2, 1)), images
    ),
    "timm resnetv2": Family(
        partial(_timm, "resnetv2_50", layers=(1, 1, 1, 1), channels=(16, 32, 48, 64)), images
    ),
    "timm resnetv2_bit": Family(_bit, images),  # its weights are standardised
    "timm levit": Family(
        partial(
            _timm,
            "levit_128s",
            img_size=64,
            embed_dim=(16, 24, 32),
            key_dim=8,
            num_heads=(2, 3, 4),
            depth=(1, 1, 1),
        ),
        partial(images, 64),
        coverage=0.9,
    ),
    "timm swin": Family(
        partial(
            _timm,
            "swin_tiny_patch4_window7_224",
            img_size=32,
            window_size=4,
            embed_dim=32,
            depths=(2, 2),
            num_heads=(4, 8),
        ),
        images,
    ),
    "timm mobilenetv4": Family(partial(_timm, "mobilenetv4_conv_small_035"), images),
    "timm maxvit": Family(
        partial(
            _timm,
            "maxvit_rmlp_pico_rw_256",
            img_size=64,
            embed_dim=(32, 32),
            depths=(1, 1),
            stem_width=(8, 16),
        ),
        partial(images, 64),
    ),
    "timm hiera": Family(
        partial(
            _timm, "hiera_tiny_224", img_size=64, embed_dim=16, num_heads=1, stages=(1, 1, 1, 1)
        ),
        partial(images, 64),
    ),
    "timm repvit": Family(
        partial(_timm, "repvit_m0_9", embed_dim=(8, 16, 24, 32), depth=(1, 1, 2, 1)),
        partial(images, 64),
    ),
    "timm resnext": Family(
        partial(_timm, "resnext50_32x4d", layers=(1, 1, 1, 1), cardinality=4, base_width=16),
        images,
    ),
    "timm efficientvit": Family(
        partial(_timm, "efficientvit_b0", widths=(8, 16, 16, 32, 32), head_widths=(64, 64)),
        partial(images, 64),
    ),
    "timm mobilevit": Family(partial(_timm, "mobilevit_xxs"), partial(images, 64)),
    "timm coat": Family(
        partial(
            _timm,
            "coat_tiny",
            img_size=64,
            embed_dims=(32, 32, 32, 32),
            serial_depths=(1, 1, 1, 1),
            parallel_depth=1,
            num_heads=8,
            mlp_ratios=(2, 2, 2, 2),
        ),
        partial(images, 64),
        coverage=0.25,  # heads are split into windows of fixed numbers of them
        smallest=0.9,
    ),
    "timm nfnet": Family(
        partial(
            _timm,
            "nf_regnet_b0",
            depths=(1, 1, 1, 1),
            channels=(16, 16, 24, 32),
            stem_chs=16,
        ),
        images,
    ),
    "timm xcit": Family(
        partial(_timm, "xcit_nano_12_p16_224", img_size=32, embed_dim=32, depth=2, num_heads=4),
        images,
    ),
}
_SIZES = {
    "vocab_size": TOKENS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
_GROUPED = _SIZES | {"num_key_value_heads": 2}
_LLAMA_LABELS = ("model.layers.0.self_attn.heads", "model.layers.1.mlp.ffn")
TEXT = {
    "transformers BERT": Family(
        partial(_hugging, "BertForSequenceClassification", **_SIZES, max_position_embeddings=16),
        _ids,
    ),
    "transformers DistilBERT": Family(
        partial(
            _hugging,
            "DistilBertForSequenceClassification",
            vocab_size=TOKENS,
            dim=32,
            n_layers=2,
            n_heads=4,
            hidden_dim=48,
            max_position_embeddings=16,
        ),
        _ids,
    ),
    "transformers GPT-2": Family(
        partial(
            _hugging,
            "GPT2LMHeadModel",
            vocab_size=TOKENS,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=16,
        ),
        _ids,
        labels=("transformer.h.0.attn.heads",),
    ),
    "transformers Llama": Family(
        partial(_hugging, "LlamaForCausalLM", **_GROUPED), _ids, labels=_LLAMA_LABELS
    ),
    "transformers Llama eager": Family(
        partial(_hugging, "LlamaForCausalLM", **_GROUPED, attention="eager"),
        _ids,
        labels=_LLAMA_LABELS,
    ),
    "transformers T5": Family(
        partial(
            _hugging,
            "T5ForConditionalGeneration",
            vocab_size=TOKENS,
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=2,
            num_heads=4,
            decoder_start_token_id=0,
            attention="eager",
        ),
        partial(_ids, "decoder_input_ids"),
        labels=("decoder.block.heads2",),
    ),
    "transformers ViT": Family(
        partial(
            _hugging,
            "ViTForImageClassification",
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            image_size=32,
            patch_size=8,
        ),
        images,
    ),
    "transformers Qwen2": Family(partial(_hugging, "Qwen2ForCausalLM", **_GROUPED), _ids),
    "transformers Qwen3": Family(
        partial(_hugging, "Qwen3ForCausalLM", **_GROUPED, head_dim=8), _ids
    ),
    "transformers Gemma2": Family(
        partial(
            _hugging,
            "Gemma2ForCausalLM",
            **_GROUPED,
            head_dim=8,
            query_pre_attn_scalar=8,
            attention="eager",
        ),
        _ids,
    ),
    "transformers Phi-3": Family(partial(_hugging, "Phi3ForCausalLM", **_GROUPED), _ids),
    "transformers Mixtral": Family(
        partial(
            _hugging,
            "MixtralForCausalLM",
            **_GROUPED,
            num_local_experts=3,
            experts_implementation="eager",
        ),
        _ids,
        labels=("model.layers.0.mlp.experts.ffn",),
    ),
    "transformers Mixtral batched": Family(
        partial(
            _hugging,
            "MixtralForCausalLM",
            **_GROUPED,
            num_local_experts=3,
            experts_implementation="batched_mm",
        ),
        _ids,
        labels=("model.layers.0.mlp.experts.ffn",),
    ),
}
FAMILIES = VISION | TIMM | TEXT
