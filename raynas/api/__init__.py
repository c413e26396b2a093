"""The functions that users call."""

from raynas.api.elastic import elastic as elastic
from raynas.api.look_up import load as load
from raynas.api.look_up import sampler as sampler
from raynas.api.look_up import space as space
from raynas.api.run_pipelines import run as run
from raynas.api.search_architectures import search as search
from raynas.api.train_networks import retrain as retrain
from raynas.api.train_supernets import train_supernet as train_supernet
