"""A small Llama on Python's help topics: half the cache of keys and values, and fewer weights."""

from pathlib import Path
from pydoc_data.topics import topics

import raynas

Path("help.txt").write_text("\n".join(topics.values())[:60_000], encoding="utf-8")
sizes = {"vocab_size": 256, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}
heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
elastic = {"heads": [0.5], "ffn": [0.25, 0.5], "depth": True}
space = raynas.space("hf:LlamaForCausalLM", elastic=elastic, **sizes, **heads)
bounds = ["kv_cache_bytes<=192", "params<36000"]  # the whole has 384 and 44,256
print(raynas.profile(space, constraints=bounds))
recipe = {"optimizer": "adamw", "lr": 0.005}
result = raynas.search(
    space,
    "block_library",
    data="text:help.txt",
    data_options={"context": 32},
    supernet={"epochs": 4, **recipe},  # {"epochs": 0} of a folder with trained weights
    constraints=bounds,
    trials=24,
)
print(result.top(3)[["perplexity", "kv_cache_bytes", "params"]])
trained = raynas.retrain(result, epochs=6, inherit=True, options=recipe)
print(trained.metrics)
print(trained.save("llama"))
