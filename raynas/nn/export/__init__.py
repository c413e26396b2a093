"""Exporters: architectures of a model in forms that JSON can hold and constructors read."""

from raynas.nn.export.registry import EXPORTERS as EXPORTERS
from raynas.nn.export.registry import Exporter as Exporter
from raynas.nn.export.registry import export as export
