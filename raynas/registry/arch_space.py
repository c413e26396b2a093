"""The registry ``search_space`` under the name that ModularNAS' code has for it."""

from raynas.registry.search_space import build as build
from raynas.registry.search_space import get_builder as get_builder
from raynas.registry.search_space import register as register
