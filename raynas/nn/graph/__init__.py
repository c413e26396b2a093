"""Operations on graphs and point clouds, in plain PyTorch."""

from raynas.nn.graph.neighbours import adjacent as adjacent
from raynas.nn.graph.neighbours import nearest_neighbours as nearest_neighbours
from raynas.nn.graph.operators import GRAPH_OPERATORS as GRAPH_OPERATORS
from raynas.nn.graph.operators import pointwise as pointwise
