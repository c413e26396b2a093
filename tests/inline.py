"""Searches in the test's own process, for laws that do not depend on Ray."""

from __future__ import annotations

from raynas.core.config import RayConfig

INLINE = RayConfig(inline=True, cpus_per_train_worker=1)
