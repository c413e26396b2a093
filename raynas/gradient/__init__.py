"""Differentiable search: logits for choices, how candidates mix, and how both are trained."""
