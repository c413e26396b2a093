"""The names that users of NNI know: mutables, fixed architectures, and one-shot trainers."""

from raynas.nn.choice import LayerChoice as LayerChoice
from raynas.nn.inputs import InputChoice as InputChoice
from raynas.nn.mutable import Mutable as Mutable
from raynas.nn.scope import MutableScope as MutableScope
from raynas.nni.fixed import apply_fixed_architecture as apply_fixed_architecture
from raynas.nni.fixed import fixed_architecture as fixed_architecture
