"""What an architecture costs: parameters, multiply-accumulates, activation memory, latency."""

from raynas.costs.cost_bounds import CostBound as CostBound
from raynas.costs.cost_bounds import cost_bound as cost_bound
from raynas.costs.cost_table import Additive as Additive
from raynas.costs.cost_table import CostTable as CostTable
from raynas.costs.latency import Latency as Latency
from raynas.costs.latency import LatencyTable as LatencyTable
from raynas.costs.latency_files import Entry as Entry
from raynas.costs.network_cost import Cost as Cost
from raynas.costs.network_cost import cost_of as cost_of
from raynas.costs.timing import LatencyResult as LatencyResult
from raynas.costs.timing import latency_table as latency_table
from raynas.costs.timing import measure_latency as measure_latency
