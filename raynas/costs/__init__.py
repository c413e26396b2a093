"""What an architecture costs: parameters, multiply-accumulates, activation memory, latency."""

from raynas.costs.cost import Cost as Cost
from raynas.costs.cost import cost_of as cost_of
from raynas.costs.extreme import Extreme as Extreme
from raynas.costs.extreme import extreme as extreme
from raynas.costs.latency import Latency as Latency
from raynas.costs.latency import LatencyTable as LatencyTable
from raynas.costs.latency_files import Entry as Entry
from raynas.costs.table import Additive as Additive
from raynas.costs.table import CostTable as CostTable
from raynas.costs.timing import LatencyResult as LatencyResult
from raynas.costs.timing import latency_table as latency_table
from raynas.costs.timing import measure_latency as measure_latency
