"""Exporters: architectures of a model in forms that JSON can hold and constructors read."""

from raynas.nn.export.exporters import EXPORTERS as EXPORTERS
from raynas.nn.export.exporters import Exporter as Exporter
from raynas.nn.export.exporters import export as export
