"""The only floor that knows Ray: supernet training, the search loop, and the workers."""

if __name__ != "raynas.cluster":
    raise ImportError(f"import raynas.cluster, not {__name__}")
