"""A bound on latency: operators are timed on this machine, and no slower network is evaluated."""

import raynas

space_options = {"width": 0.25}
profile = raynas.profile("mobilenet_v2_cifar", latency="cpu", space_options=space_options)
smallest, _, largest = (profiled.metrics["latency_ms"] for profiled in profile.archs)
bound = smallest + 0.3 * (largest - smallest)
result = raynas.search(
    "mobilenet_v2_cifar",
    data="digits",
    constraints={"latency_ms": (None, bound)},
    latency="cpu",
    epochs=4,
    trials=12,
    space_options=space_options,
)
print(result.top(3)[["accuracy", "latency_ms", "macs"]])
assert result.trials["latency_ms"].max() <= bound
