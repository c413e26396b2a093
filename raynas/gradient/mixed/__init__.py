"""How candidates combine in a supernet, one mixed operator a file."""

from raynas.gradient.mixed.base import MIXED_OPS as MIXED_OPS
from raynas.gradient.mixed.base import Draw as Draw
from raynas.gradient.mixed.base import MixedOp as MixedOp
