"""Data sets as tensors, by name or from anybody's torch datasets."""

from raynas.data.module import DataModule as DataModule
from raynas.data.module import Splits as Splits
from raynas.data.tensor_data import TensorData as TensorData
