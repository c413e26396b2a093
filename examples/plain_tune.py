"""A plain run of Ray Tune, your own trainable, searched by regularized evolution."""

import tempfile

from ray import tune

from raynas.cluster import TuneSearcher


def train(config: dict) -> dict:
    """Stand for any trainable of Tune, with reports and checkpoints or without."""
    wide, deep = config["model"]["width"], config["model"]["depth"]
    return {"accuracy": 0.5 + deep / 10 - abs(wide - 48) / 320 + (config["act"] == "gelu") / 20}


space = {
    "act": tune.choice(["relu", "gelu"]),
    "model": {"width": tune.qrandint(16, 64, 16), "depth": tune.randint(1, 4)},
}
algo = TuneSearcher("regularized_evolution", options={"population": 4, "tournament": 2})
goal = {"metric": "accuracy", "mode": "max"}
settings = tune.TuneConfig(**goal, search_alg=algo, num_samples=8, reuse_actors=True)
run = tune.RunConfig(storage_path=tempfile.mkdtemp(), verbose=0)
results = tune.Tuner(train, param_space=space, tune_config=settings, run_config=run).fit()
best = results.get_best_result()
print({"accuracy": round(best.metrics["accuracy"], 3), **best.config})
