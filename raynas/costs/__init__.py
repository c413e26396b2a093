"""What an architecture costs: parameters, multiply-accumulates, activation memory."""

from raynas.costs.cost import Cost as Cost
from raynas.costs.cost import cost_of as cost_of
from raynas.costs.table import CostTable as CostTable
