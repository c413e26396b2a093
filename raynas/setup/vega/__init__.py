"""Configuration files of Vega and ModularNAS, read as pipelines of ours."""

from raynas.setup.vega.convert import Converted as Converted
from raynas.setup.vega.convert import converted as converted
from raynas.setup.vega.convert import is_vega as is_vega
