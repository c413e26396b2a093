"""The only floor that knows Ray: supernet training, the search loop, and the workers."""

if __name__ != "raynas.cluster":
    raise ImportError(f"import raynas.cluster, not {__name__}")

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raynas.cluster.tune_searcher import TuneSearcher as TuneSearcher

__all__ = ["TuneSearcher"]


def __getattr__(name: str) -> Any:
    """Return the searcher, for which alone Ray is imported."""
    if name in __all__:
        from raynas.cluster import tune_searcher

        return vars(tune_searcher)[name]
    raise AttributeError(f"module 'raynas.cluster' has no attribute {name!r}")
