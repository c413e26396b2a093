"""Candidate operations by name, one family a file."""

from raynas.nn.operators.basic import FactorizedReduce as FactorizedReduce
from raynas.nn.operators.basic import Zero as Zero
from raynas.nn.operators.candidates import candidates as candidates
from raynas.nn.operators.darts import DARTS_PRIMITIVES as DARTS_PRIMITIVES
from raynas.nn.operators.darts import ReLUConvBN as ReLUConvBN
from raynas.nn.operators.fbnet import FBNET_BLOCKS as FBNET_BLOCKS
from raynas.nn.operators.fbnet import FBNetBlock as FBNetBlock
from raynas.nn.operators.inverted_residual import InvertedResidual as InvertedResidual
from raynas.nn.operators.layers import ChannelShuffle as ChannelShuffle
from raynas.nn.operators.layers import SqueezeExcite as SqueezeExcite
from raynas.nn.operators.layers import conv_bn as conv_bn
from raynas.nn.operators.layers import round_channels as round_channels
from raynas.nn.operators.nas_bench_201 import NAS_BENCH_201 as NAS_BENCH_201
from raynas.nn.operators.operator_registry import OPERATORS as OPERATORS
from raynas.nn.operators.operator_registry import Operator as Operator
from raynas.nn.operators.shufflenet import ShuffleBlock as ShuffleBlock
