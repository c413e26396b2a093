"""Constructors: what turns a template of slots, or a supernet, into another model."""

from raynas.nn.construct.chain import CONSTRUCTORS as CONSTRUCTORS
from raynas.nn.construct.chain import Constructor as Constructor
from raynas.nn.construct.chain import construct as construct
