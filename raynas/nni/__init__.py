"""The names that users of NNI know: mutables, fixed architectures, and one-shot trainers."""

from raynas.nn.choice import LayerChoice as LayerChoice
from raynas.nn.inputs import InputChoice as InputChoice
from raynas.nn.mutable import Mutable as Mutable
from raynas.nn.scope import MutableScope as MutableScope
from raynas.nni.callbacks import ArchitectureCheckpoint as ArchitectureCheckpoint
from raynas.nni.callbacks import Callback as Callback
from raynas.nni.callbacks import LRSchedulerCallback as LRSchedulerCallback
from raynas.nni.callbacks import ModelCheckpoint as ModelCheckpoint
from raynas.nni.darts import DartsTrainer as DartsTrainer
from raynas.nni.enas import EnasTrainer as EnasTrainer
from raynas.nni.fbnet import FBNetTrainer as FBNetTrainer
from raynas.nni.fbnet import NASConfig as NASConfig
from raynas.nni.fixed import apply_fixed_architecture as apply_fixed_architecture
from raynas.nni.fixed import fixed_architecture as fixed_architecture
from raynas.nni.mutators import DartsMutator as DartsMutator
from raynas.nni.mutators import EnasMutator as EnasMutator
from raynas.nni.mutators import SPOSSupernetTrainingMutator as SPOSSupernetTrainingMutator
from raynas.nni.proxyless import ProxylessNasTrainer as ProxylessNasTrainer
from raynas.nni.proxyless import ProxylessTrainer as ProxylessTrainer
from raynas.nni.spos import SinglePathTrainer as SinglePathTrainer
from raynas.nni.spos import SPOSEvolution as SPOSEvolution
from raynas.nni.spos import SPOSSupernetTrainer as SPOSSupernetTrainer
from raynas.nni.trainer import RunOptions as RunOptions
