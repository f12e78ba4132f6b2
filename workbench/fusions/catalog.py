"""The rules of `Model.fuse`, in the order in which they run."""

from __future__ import annotations

from ..errors import EditError
from .attention import Attention
from .casts import CastRemoval
from .constants import ConstantFolding
from .conv_batchnorm import ConvBatchNorm
from .dropout import DropoutRemoval
from .duplicates import DuplicateRemoval
from .gelu import Gelu
from .group_norm import GroupNorm
from .hard_swish import HardSwish
from .identity import IdentityRemoval
from .layer_norm import LayerNorm
from .matmul_add import MatMulAdd
from .mish import Mish
from .moments_norm import MomentsNorm
from .pad_conv import PadConv
from .qdq import QDQCleanUp
from .reshapes import ReshapeRemoval
from .rms_norm import RMSNorm
from .rotary import Rotary
from .rule import Rule
from .scale_shift import ScaleShift
from .shapes import ShapeFolding
from .silu import SiLU
from .skip_norm import SkipNorm
from .softmax import Softmax
from .swiglu import SwiGLU
from .transposes import TransposeRemoval

RULES: tuple[Rule, ...] = (
    # what is no computation goes first, so that the patterns after it see neighbours as neighbours
    IdentityRemoval(), DropoutRemoval(), CastRemoval(), ShapeFolding(), ConstantFolding(), DuplicateRemoval(),
    ReshapeRemoval(), TransposeRemoval(), QDQCleanUp(),
    # weights; a BatchNormalization before the scale that it would leave
    PadConv(), ConvBatchNorm(), ScaleShift(), MatMulAdd(),
    # chains to one node; SwiGLU before the SiLU in it, norms before the sums in front of them
    SwiGLU(), Gelu(), SiLU(), HardSwish(), Mish(),
    LayerNorm(), MomentsNorm(), RMSNorm(), GroupNorm(), SkipNorm(), Rotary(), Softmax(), Attention(),
)  # fmt: skip

BY_NAME = {rule.name: rule for rule in RULES}


def named(name: str) -> Rule:
    """A rule by its name."""
    if name not in BY_NAME:
        raise EditError(f"there is no fusion {name!r}; expected one of {', '.join(BY_NAME)}")
    return BY_NAME[name]
