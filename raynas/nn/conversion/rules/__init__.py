"""What operations mean for labels: one kind a file, found by the operation's name."""

from raynas.nn.conversion.rules import attention as attention
from raynas.nn.conversion.rules import fused as fused
from raynas.nn.conversion.rules import moving as moving
from raynas.nn.conversion.rules import norms as norms
from raynas.nn.conversion.rules import pointwise as pointwise
from raynas.nn.conversion.rules import reducing as reducing
from raynas.nn.conversion.rules import routing as routing
from raynas.nn.conversion.rules import weights as weights
from raynas.nn.conversion.rules.registry import RULES as RULES
