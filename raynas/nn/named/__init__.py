"""Models that other libraries build by their names, without downloading anything."""
