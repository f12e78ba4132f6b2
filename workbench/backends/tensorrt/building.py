"""Parsing, support and building, through Polygraphy's loaders. Nothing here needs a GPU with TensorRT-RTX."""

from __future__ import annotations

import re
import resource
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import gpu
from .log import Writer, monitor

if TYPE_CHECKING:
    import tensorrt as trt

ROOT = "/model.onnx"
"""Where the parser believes the model to lie: `Model.to_proto` names data files by their path below ``/``."""

Parts = tuple["trt.Builder", "trt.INetworkDefinition", "trt.OnnxParser"]


def parts(*, strongly_typed: bool = True, debug: bool = False) -> Parts:
    """Builder, empty network and parser."""
    from polygraphy.backend.trt.loader import BaseNetworkFromOnnx

    return BaseNetworkFromOnnx(
        strongly_typed=strongly_typed or None, mark_unfused_tensors_as_debug_tensors=debug or None
    )()


def errors(parser: trt.OnnxParser) -> list[dict[str, Any]]:
    """What the parser complains of: node, operator, code, reason and the functions around the node."""
    found = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        found.append(
            {
                "node": error.node_name(),
                "op_type": error.node_operator(),
                "index": error.node(),
                "code": str(error.code()).rsplit(".", 1)[-1],
                "reason": error.desc().strip(),
                "functions": [str(name) for name in error.local_function_stack() or ()],
            }
        )
    return found


def described(model: bytes) -> dict[str, Any]:
    """Parse: ``errors`` (empty when it worked), and the network: ``layers``, ``inputs``, ``outputs``."""
    _, network, parser = parts()
    if not parser.parse(model, ROOT):
        return {"errors": errors(parser) or [_silent()]}
    return {"errors": [], **describe(network)}


def _silent() -> dict[str, Any]:
    return {"node": "", "op_type": "", "index": -1, "code": "", "reason": "no reason given", "functions": []}


def describe(network: trt.INetworkDefinition) -> dict[str, Any]:
    """A network as plain data."""
    layers = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        ins = (layer.get_input(i) for i in range(layer.num_inputs))
        outs = (layer.get_output(i) for i in range(layer.num_outputs))
        layers.append(
            {
                "name": layer.name,
                "type": layer.type.name,
                "inputs": [_tensor(tensor) for tensor in ins if tensor is not None],
                "outputs": [_tensor(tensor) for tensor in outs if tensor is not None],
                "metadata": layer.metadata,
            }
        )
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    return {
        "layers": layers,
        "inputs": [{**_tensor(t), "shape_tensor": t.is_shape_tensor} for t in inputs],
        "outputs": [_tensor(t) for t in outputs],
    }


def _tensor(tensor: trt.ITensor) -> dict[str, Any]:
    """Name, type and shape (-1: dynamic; None: TensorRT does not know the rank)."""
    try:
        shape = list(tensor.shape)
    except ValueError:  # a rank below 0
        shape = None
    return {"name": tensor.name, "dtype": tensor.dtype.name, "shape": shape}


def support(model: bytes) -> dict[str, Any]:
    """What `supports_model_v2` says: ``supported``, ``errors``, and ``parts``: (indices of nodes, supported)."""
    _, _, parser = parts()
    fine = parser.supports_model_v2(model, ROOT)
    pieces = [
        (list(parser.get_subgraph_nodes(i)), bool(parser.is_subgraph_supported(i)))
        for i in range(parser.num_subgraphs)
    ]
    return {"supported": bool(fine), "errors": errors(parser), "parts": pieces}


def build(model: bytes, settings: Mapping[str, Any], log: Writer) -> dict[str, Any]:
    """Parse and build.

    Args:
        settings: ``profiles`` (list of input -> (min, opt, max)), ``values`` (the same for the values of inputs that
            shapes are computed from), ``capabilities`` (list such as ``["8.6"]``), ``strongly_typed``, ``debug``,
            ``timing_cache`` (path or None), ``config`` (arguments of Polygraphy's CreateConfig).

    Returns:
        ``errors`` alone when the parser refused; else the network (see `describe`), ``plan`` (None when the builder
        failed: the log has the reason), ``failure``, ``seconds``, ``peak_bytes`` of this process and ``layers_json``
        (the inspector's text; None where an engine cannot be deserialised, without a GPU).
    """
    from polygraphy.backend.trt import EngineBytesFromNetwork
    from polygraphy.exception import PolygraphyException

    start, peak = time.perf_counter(), _peak()
    made = parts(strongly_typed=settings["strongly_typed"], debug=settings["debug"])
    _, network, parser = made
    if not parser.parse(model, ROOT):
        return {"errors": errors(parser) or [_silent()]}
    about = {"errors": [], **describe(network)}
    config = _config(settings, log)
    failure, plan = "", None
    try:
        cache = settings["timing_cache"]
        plan = bytes(EngineBytesFromNetwork(made, config, save_timing_cache=cache)())
    except PolygraphyException as error:
        failure = str(error).strip()
    seconds = time.perf_counter() - start
    about |= {"failure": failure, "seconds": seconds, "peak_bytes": peak(), "plan": plan}
    return {**about, "layers_json": inspect(plan) if plan else None}


def _config(settings: Mapping[str, Any], log: Writer) -> Callable[..., trt.IBuilderConfig]:
    import tensorrt as trt
    from polygraphy.backend.trt import CreateConfig, PostprocessConfig

    def finish(builder: trt.Builder, network: trt.INetworkDefinition, config: Any) -> None:
        wanted = [f"SM{name.replace('.', '')}" for name in settings["capabilities"]]
        if wanted:
            config.num_compute_capabilities = len(wanted)
        for index, name in enumerate(wanted):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), index)

    def create(builder: trt.Builder, network: trt.INetworkDefinition) -> trt.IBuilderConfig:
        made = CreateConfig(
            profiles=_profiles(network, settings),
            load_timing_cache=settings["timing_cache"],
            progress_monitor=monitor(log),
            **settings["config"],
        )
        config: trt.IBuilderConfig = PostprocessConfig(made, finish)(builder, network)
        return config

    return create


def _profiles(network: trt.INetworkDefinition, settings: Mapping[str, Any]) -> list[Any]:
    """Polygraphy's profiles: of inputs whose values are shapes, the values; of the others the shapes."""
    from polygraphy.backend.trt import Profile

    profiles = []
    for shapes, values in zip(settings["profiles"], settings["values"], strict=True):
        profile = Profile()
        for index in range(network.num_inputs):
            tensor = network.get_input(index)
            source = values if tensor.is_shape_tensor else shapes
            if tensor.name in source:
                profile.add(tensor.name, *source[tensor.name])
        profiles.append(profile)
    return profiles


def inspect(plan: bytes) -> str | None:
    """The inspector's JSON text of a plan; None where it cannot be deserialised."""
    import tensorrt as trt
    from polygraphy.backend.trt import util

    if not gpu.devices():  # else the attempt would leave errors in the log of a build that went well
        return None
    engine = trt.Runtime(util.get_trt_logger()).deserialize_cuda_engine(plan)
    if engine is None:
        return None
    text: str = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return text


def _peak() -> Callable[[], int]:
    """A function that gives the most bytes that this process held since now (on other systems: since its start)."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def read() -> int:
        with open("/proc/self/status") as file:
            found = re.search(r"VmHWM:\s+(\d+) kB", file.read())
        return int(found[1]) * 1024 if found else 0

    return read
