"""A plugin's kernel inside of a TensorRT engine: IPluginV3 with its build and runtime capabilities.

**Not run by the project**: TensorRT cannot be installed where it is tested. This file is written against the documented
API of TensorRT 10 (IPluginV3OneCore, IPluginV3OneBuild, IPluginV3OneRuntime, IPluginCreatorV3One) and checked
against its
type stubs; `shape_sources`, which needs no TensorRT, is tested. TensorRT-RTX has no user plugins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import BackendNotInstalled, PluginError
from ...plugins.declaration import Plugin
from ...plugins.launch import Spec

if TYPE_CHECKING:
    import tensorrt as trt

Source = list[tuple[int, int] | int]
"""For each dim of an output: (input, its dim), or a number."""
_PRIMES = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)


def register(plugin: Plugin) -> Any:
    """Make a plugin known to TensorRT in this process: its parser then takes nodes of that name for it.

    Returns:
        The creator, which must be kept for as long as engines with the plugin are built or run.

    Raises:
        BackendNotInstalled: TensorRT is missing.
        PluginError: the plugin has no kernel, or the shape of an output is no choice of dims of its inputs.
    """
    try:
        import tensorrt as trt

        registry = trt.get_plugin_registry()
    except (ImportError, AttributeError) as error:  # type stubs alone make an empty module of that name
        raise BackendNotInstalled(
            f"cannot register plugin {plugin.name!r}: TensorRT cannot be imported ({error}); pip install tensorrt",
            backend="tensorrt", phase="start",
        ) from None  # fmt: skip
    plugin.check_kernel(plugin.shapes())
    creator = _creator(plugin, shape_sources(plugin))
    registry.register_creator(creator, "")
    return creator


def shape_sources(plugin: Plugin) -> list[Source]:
    """Where each dim of each output comes from, found by giving every dim of the example a size of its own.

    Raises:
        PluginError: a dim is computed otherwise.
    """
    example = plugin.shapes()
    probes = []
    for sizes in (_PRIMES, _PRIMES[::-1]):
        found = plugin.shapes(sizes[: len(example[0].shape)], example[0].dtype)
        probes.append((found, plugin.specs(found)))
    sources: list[Source] = []
    for name in plugin.outputs:
        shapes = [specs[name].shape for _, specs in probes]
        source: Source = []
        for axis, dims in enumerate(zip(*shapes, strict=True)):
            places = [
                (number, at)
                for number in range(len(example))
                for at in range(len(probes[0][0][number].shape))
                if all(inputs[number].shape[at] == dim for (inputs, _), dim in zip(probes, dims, strict=True))
            ]
            if not places and dims[0] != dims[1]:
                raise PluginError(
                    f"plugin {plugin.name!r} cannot be a TensorRT plugin: dim {axis} of output {name!r} "
                    "is no dim of an "
                    "input; expected outputs whose shapes are choices of those of the inputs"
                )
            source.append(places[0] if places else dims[0])
        sources.append(source)
    return sources


def _creator(plugin: Plugin, sources: list[Source]) -> trt.IPluginCreatorV3One:
    """The creator; classes are made here because their bases exist only where TensorRT does."""
    import tensorrt as trt

    defaults = plugin.attributes
    kinds = {
        float: trt.PluginFieldType.FLOAT32,
        int: trt.PluginFieldType.INT64,
        str: trt.PluginFieldType.CHAR,
    }

    class Call(trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):
        """One node."""

        def __init__(self, attributes: dict[str, Any]):
            for base in (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):
                base.__init__(self)
            self.plugin_name, self.plugin_namespace, self.plugin_version = plugin.name, "", "1"
            self.num_outputs = len(plugin.outputs)
            self.attributes = attributes
            self.device: Any = None

        def get_capability_interface(self, type: Any) -> Any:
            return self

        def clone(self) -> Any:
            return Call(dict(self.attributes))

        def get_output_data_types(self, input_types: list[Any]) -> list[Any]:
            specs = [
                Spec(np.dtype(trt.nptype(kind)).name, s.shape)
                for kind, s in zip(input_types, example, strict=True)
            ]
            made = plugin.specs(specs, self.attributes)
            return [getattr(trt.DataType, _NAMES[made[name].dtype]) for name in plugin.outputs]

        def get_output_shapes(self, inputs: list[Any], shape_inputs: list[Any], builder: Any) -> list[Any]:
            found = []
            for source in sources:
                dims = trt.DimsExprs(len(source))
                for axis, place in enumerate(source):
                    dims[axis] = (
                        builder.constant(place) if isinstance(place, int) else inputs[place[0]][place[1]]
                    )
                found.append(dims)
            return found

        def supports_format_combination(self, pos: int, in_out: list[Any], num_inputs: int) -> bool:
            mine = in_out[pos].desc
            known = mine.type in [getattr(trt.DataType, _NAMES[d]) for d in plugin.dtypes if d in _NAMES]
            return bool(mine.format == trt.TensorFormat.LINEAR and known and mine.type == in_out[0].desc.type)

        def configure_plugin(self, given: list[Any], made: list[Any]) -> None:
            pass

        def on_shape_change(self, given: list[Any], made: list[Any]) -> None:
            pass

        def attach_to_context(self, context: Any) -> Any:
            return self.clone()

        def get_valid_tactics(self) -> list[int]:
            return []

        def set_tactic(self, tactic: int) -> None:
            pass

        def get_workspace_size(self, given: list[Any], made: list[Any]) -> int:
            return 0

        def get_fields_to_serialize(self) -> Any:
            return trt.PluginFieldCollection([_field(trt, kinds, n, v) for n, v in self.attributes.items()])

        def enqueue(
            self,
            given: list[Any],
            made: list[Any],
            inputs: list[int],
            outputs: list[int],
            workspace: int,
            stream: int,
        ) -> None:
            from ..cuda.device import Device
            from ..kernels import compiled
            from ..nvrtc import Runtime as Compiler

            if self.device is None:
                self.device, self.compiler = Device(), Compiler()
            specs = [Spec(np.dtype(trt.nptype(d.type)).name, tuple(d.dims)) for d in given]
            compiler = self.compiler
            done = compiled(plugin, specs, self.attributes, self.device.arch, compiler.compile, compiler.version)
            launch = plugin.launch(specs, self.attributes)
            function = self.device.function(done.cubin, plugin.kernel, launch.shared)
            self.device.launch(function, launch, [*inputs, *outputs], stream=stream)

    class Creator(trt.IPluginCreatorV3One):
        """Makes nodes when TensorRT parses a model or reads an engine."""

        def __init__(self) -> None:
            trt.IPluginCreatorV3One.__init__(self)
            self.name, self.plugin_namespace, self.plugin_version = plugin.name, "", "1"
            self.field_names = trt.PluginFieldCollection(
                [_field(trt, kinds, n, v) for n, v in defaults.items()]
            )

        def create_plugin(self, name: str, fields: Any, phase: Any) -> Any:
            attributes = {f.name: type(defaults[f.name])(np.asarray(f.data).reshape(-1)[0]) for f in fields}
            return Call(plugin.given(attributes))

    example = plugin.shapes()
    return Creator()


_NAMES = {
    "float32": "FLOAT", "float16": "HALF", "bfloat16": "BF16", "int8": "INT8", "int32": "INT32", "int64": "INT64",
    "bool": "BOOL", "uint8": "UINT8",
}  # fmt: skip


def _field(trt: Any, kinds: dict[type, Any], name: str, value: Any) -> Any:
    data = np.frombuffer(value.encode(), np.int8) if isinstance(value, str) else np.array([value])
    return trt.PluginField(
        name, data.astype(np.float32) if isinstance(value, float) else data, kinds[type(value)]
    )
