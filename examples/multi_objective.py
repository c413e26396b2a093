"""Two objectives: a front of accuracy against operations, its volume and its knee."""

import raynas

result = raynas.search(
    "mlp",
    algo="nsga2",
    data="digits",
    objectives={"accuracy": "max", "macs": "min"},
    evaluator=("standalone", {"epochs": 3, "lr": 0.1, "early_stopping": False}),
    trials=40,
)
front = result.pareto().sort_values("macs")
print(front[["accuracy", "macs", "choice.width", "choice.depth"]])
print("hypervolume", result.hypervolume({"accuracy": 0.5, "macs": 500e3}))
print("knee:", result.knee()[["accuracy", "macs"]].to_dict())
