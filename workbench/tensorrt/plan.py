"""What a serialised engine holds, told by TensorRT itself, where it can be deserialised."""

from __future__ import annotations

import os
from pathlib import Path

from ..backends import Worker
from ..errors import EngineError
from . import layers
from .build import using

PLANS = (".plan", ".engine", ".trt")
"""What files of serialised engines are called."""


def inspected(plan: str | os.PathLike[str] | bytes, name: str, worker: Worker | None = None) -> layers.Read:
    """The layers of a plan: a file, or its bytes.

    Raises:
        EngineError: it cannot be read, or deserialised here.
        BackendError: TensorRT is not installed, or failed.
    """
    try:
        data = plan if isinstance(plan, bytes) else Path(plan).read_bytes()
    except OSError as error:
        raise EngineError(f"cannot read the plan from {plan!s}: {error.strerror or error}") from error
    with using(worker, None, 600.0) as used:
        about = used.call("about", phase="start")
        text = used.call("inspect", phase="load", plan=data)
    if text is None:
        where = ", ".join(gpu["name"] for gpu in about["gpus"]) or "no GPU"
        raise EngineError(
            f"cannot look into the plan of {name!r}: {about['library']} {about['version']} does not deserialise it "
            f"here (this machine has {where}; a plan is for one version and one kind of GPU). Where it runs: trtexec "
            "--loadEngine=FILE --exportLayerInfo=layers.json --exportProfile=times.json; then load these"
        )
    return layers.read(text)
