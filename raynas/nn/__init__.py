"""Mutable modules: where decisions stand in a PyTorch model, and what can be done with them."""

from raynas.nn.choice import LayerChoice as LayerChoice
from raynas.nn.mutable import Mutable as Mutable
from raynas.nn.mutable import activate as activate
from raynas.nn.mutable import freeze as freeze
from raynas.nn.mutable import name_labels as name_labels
from raynas.nn.mutable import space_of as space_of
