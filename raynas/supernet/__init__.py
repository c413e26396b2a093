"""How supernets, and single networks, are trained and scored."""
