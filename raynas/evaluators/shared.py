"""Scoring with a supernet's weights (Guo et al., 2020, arXiv:1904.00420)."""

from __future__ import annotations

from typing import Any

from raynas.core.evaluator import EVALUATORS
from raynas.core.options import options_of


@EVALUATORS.register("shared")
class Shared:
    """Inherits the weights of a supernet, recalibrates BatchNorm, and validates.

    The supernet is trained first unless a trained one is given (``supernet=``). Metrics:
    ``accuracy``, ``loss``, ``params``, ``macs``, ``activation_bytes``; and ``latency_ms`` where it
    is asked for.

    Args:
        calibration_images: of the training split, at most, that BatchNorm is recalibrated with.
        validation_images: of the validation split, at most, that are scored.
        cache_mb: of activations that a worker keeps, so that architectures that begin alike share
            them; 0 keeps none. Scores are the same bit for bit.

    Raises:
        ValueError: no images, or a negative cache.
    """

    def __init__(
        self,
        *,
        calibration_images: int = 512,
        validation_images: int = 2000,
        cache_mb: int = 128,
    ) -> None:
        for name, value in (
            ("calibration_images", calibration_images),
            ("validation_images", validation_images),
        ):
            if type(value) is not int or value < 1:
                raise ValueError(
                    f"shared: {name} must be a whole number of at least 1, got {value!r}"
                )
        if type(cache_mb) is not int or cache_mb < 0:
            raise ValueError(
                f"shared: cache_mb must be a whole number of at least 0, got {cache_mb!r}"
            )
        self.calibration_images = calibration_images
        self.validation_images = validation_images
        self.cache_mb = cache_mb

    @property
    def chosen(self) -> dict[str, Any]:
        """The options that are not as by default."""
        known = options_of(type(self)).items()
        return {name: getattr(self, name) for name, o in known if getattr(self, name) != o.default}

    @property
    def settings(self) -> dict[str, int]:
        """What a scorer is made with."""
        return {
            "calibration_images": self.calibration_images,
            "validation_images": self.validation_images,
            "cache_bytes": self.cache_mb * 2**20,
        }
