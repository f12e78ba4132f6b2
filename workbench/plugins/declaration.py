"""A plugin as one declaration: name, body in ONNX, CUDA kernel with its launch rule.

The declaration travels inside of a model: the body is a model-local function ``workbench::<name>``, and that function's
metadata holds kernel and launch rule (``workbench.plugin``, JSON). So a saved model runs anywhere by its body, and on
a GPU by its kernel, without the code that declared it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import onnx

from ..errors import PluginError
from ..model import Model, load
from ..model.info import DTYPES
from . import body as bodies
from .launch import Launch, Rule, Spec

METADATA = "workbench.plugin"
_ANY = (1024, 1024)  # the shape of every input where a plugin has no example
_KINDS = {
    "float": "a number", "int": "an int", "str": "text", "floats": "numbers", "ints": "ints", "strs": "texts",
}  # fmt: skip
KERNEL_DTYPES = (
    "float32", "float16", "bfloat16", "float64", "int8", "uint8", "int32", "uint32", "int64", "uint64", "bool",
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where the text of a kernel stands, so that errors point there.

    Attributes:
        file: its name, or ``the cell``.
        line: the line there of the kernel's first line.
    """

    file: str = "the kernel"
    line: int = 1


@dataclass(frozen=True)
class Plugin:
    """A custom operator of domain ``workbench``. Made by `workbench.plugins.plugin`; its fields are described there.

    Attributes:
        proto: the body, a serialised FunctionProto.
        kernel: name of the ``__global__`` function, '' for a plugin without one.
        place: where the CUDA source stands.
    """

    name: str
    proto: bytes = field(repr=False)
    cuda: str = field(default="", repr=False)
    kernel: str = ""
    rule: Rule = field(default=Rule((), ("1",), ("1",)), repr=False)
    dtypes: tuple[str, ...] = ()
    example: tuple[tuple[str, tuple[int, ...]], ...] = ()
    place: Place = field(default=Place(), compare=False, repr=False)
    reference: Callable[..., Any] | None = field(default=None, compare=False, repr=False)
    triton: str = field(default="", compare=False, repr=False)

    # -- what it is -----------------------------------------------------------------------------------------------

    @cached_property
    def body(self) -> onnx.FunctionProto:
        """The body, without the declaration in its metadata; do not change it."""
        return onnx.FunctionProto.FromString(self.proto)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return tuple(self.body.input)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return tuple(self.body.output)

    @property
    def attributes(self) -> dict[str, Any]:
        """Attribute -> default; None where a node must give it."""
        return bodies.attributes(self.body)

    @property
    def signature(self) -> str:
        """``FusedGelu(x) -> (y)``."""
        return bodies.signature(self.body)

    @property
    def key(self) -> str:
        """sha256 (hex) of the declaration."""
        return hashlib.sha256(self.function.SerializeToString(deterministic=True)).hexdigest()

    @cached_property
    def function(self) -> onnx.FunctionProto:
        """The body with the declaration in its metadata, as it stands in a model."""
        made = onnx.FunctionProto()
        made.CopyFrom(self.body)
        data = {
            "cuda": self.cuda, "kernel": self.kernel, "args": self.rule.args, "grid": self.rule.grid,
            "block": self.rule.block, "shared": self.rule.shared, "requires": self.rule.requires, "dtypes": self.dtypes,
            "example": [[name, list(shape)] for name, shape in self.example],
        }  # fmt: skip
        made.metadata_props.add(key=METADATA, value=json.dumps(data))
        return made

    # -- one call -------------------------------------------------------------------------------------------------

    def given(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """The attributes of a call, with the defaults.

        Raises:
            PluginError: one is unknown or missing, or of another type.
        """
        found, kinds = dict(self.attributes), bodies.attribute_types(self.body)
        for name, value in attributes.items():
            if name not in found:
                known = ", ".join(map(repr, found)) or "none"
                raise PluginError(f"plugin {self.name!r} has no attribute {name!r}; expected one of {known}")
            try:
                found[name] = bodies.as_attribute(value, kinds[name])
            except TypeError:
                raise PluginError(
                    f"plugin {self.name!r}: got {value!r} for the attribute {name!r}, expected {_KINDS[kinds[name]]}"
                ) from None
        for name, value in found.items():
            if value is None:
                raise PluginError(
                    f"plugin {self.name!r} needs the attribute {name!r}, which has no default; give it"
                )
        return found

    def specs(self, inputs: Sequence[Spec], attributes: Mapping[str, Any] | None = None) -> dict[str, Spec]:
        """dtype and shape of every input and output of a call, by name.

        Raises:
            PluginError: the body does not take these inputs.
        """
        if len(inputs) != len(self.inputs):
            raise PluginError(f"{self.signature} got {len(inputs)} inputs, expected {len(self.inputs)}")
        made = bodies.outputs(self.body, inputs, self.given(attributes or {}))
        return dict(zip((*self.inputs, *self.outputs), (*inputs, *made), strict=True))

    def launch(self, inputs: Sequence[Spec], attributes: Mapping[str, Any] | None = None) -> Launch:
        """Grid, block, shared memory and arguments for a call.

        Raises:
            PluginError: there is no kernel for it, or the rule gives no possible launch.
        """
        self.check_kernel(inputs)
        given = self.given(attributes or {})
        return self.rule.launch(self.name, self.specs(inputs, given), given)

    def check_kernel(self, inputs: Sequence[Spec]) -> None:
        """Refuse a call that the kernel is not made for."""
        if not self.cuda:
            raise PluginError(f"plugin {self.name!r} has no CUDA kernel; give one with cuda=")
        if inputs and inputs[0].dtype not in self.dtypes:
            raise PluginError(
                f"the kernel of plugin {self.name!r} is for {', '.join(self.dtypes)}; got {inputs[0].dtype} for "
                f"{self.inputs[0]!r}; cast it, or add the dtype to dtypes="
            )

    def shapes(self, shapes: Any = None, dtype: str | None = None) -> list[Spec]:
        """dtype and shape of each input, from shapes as users give them.

        Args:
            shapes: input -> shape; one shape for the first input (others as the example has them, its last dims
                replaced alike); None for the example (without one: 1024 x 1024 for every input).
            dtype: of the inputs; None: the first of `dtypes`.
        """
        example = dict(self.example) or dict.fromkeys(self.inputs, _ANY)
        wanted = dtype or (self.dtypes or ("float32",))[0]
        if shapes is None:
            shapes = example
        elif not isinstance(shapes, Mapping):
            shapes = {self.inputs[0]: tuple(shapes)}
        found = {name: tuple(shapes[name]) for name in self.inputs if name in shapes}
        unknown = [name for name in shapes if name not in self.inputs]
        missing = [name for name in self.inputs if name not in found]
        if missing and not unknown and self.inputs[0] in found and set(missing) <= set(example):
            first = found[self.inputs[0]]
            found |= {name: _alike(example, self.inputs[0], name, first) for name in missing}
        elif missing or unknown:
            raise PluginError(
                f"plugin {self.name!r}: got shapes for {', '.join(map(repr, shapes)) or 'no input'}, expected "
                f"{', '.join(map(repr, self.inputs))}; give {{input: shape}}"
            )
        for name, shape in found.items():
            if not all(isinstance(dim, int) and dim >= 0 for dim in shape):
                raise PluginError(
                    f"plugin {self.name!r}: got the shape {shape} for {name!r}, expected dims of 0 or more"
                )
        return [Spec(wanted, found[name]) for name in self.inputs]

    def model(self, inputs: Sequence[Spec], attributes: Mapping[str, Any] | None = None) -> Model:
        """A model of one node that calls the plugin."""
        specs = self.specs(inputs, attributes)
        codes = {name: number for number, name in DTYPES.items()}

        def infos(names: Sequence[str]) -> list[onnx.ValueInfoProto]:
            return [
                onnx.helper.make_tensor_value_info(n, codes[specs[n].dtype], specs[n].shape) for n in names
            ]

        node = onnx.helper.make_node(
            self.name,
            self.inputs,
            self.outputs,
            name=self.name,
            domain=bodies.DOMAIN,
            **self.given(attributes or {}),
        )
        graph = onnx.helper.make_graph([node], self.name, infos(self.inputs), infos(self.outputs))
        made = onnx.helper.make_model(graph, ir_version=10, functions=[self.function])
        del made.opset_import[:]
        made.opset_import.extend(self.body.opset_import)
        made.opset_import.add(domain=bodies.DOMAIN, version=1)
        return load(made)

    # -- what it does; these stand to the right and are loaded when called -----------------------------------------

    def compile(self, **options: Any) -> Any:
        """Compile the kernel, without a GPU: see `workbench.backends.kernels.compile_plugin`."""
        return importlib.import_module("workbench.backends.kernels").compile_plugin(self, **options)

    def check(self, shapes: Any = None, **options: Any) -> Any:
        """Compare the kernel with the body on a GPU: see `workbench.compare.kernels.check`."""
        return importlib.import_module("workbench.compare.kernels").check(self, shapes, **options)

    def bench(self, shapes: Any = None, **options: Any) -> Any:
        """Time the kernel on a GPU: see `workbench.profile.kernels.bench`."""
        return importlib.import_module("workbench.profile.kernels").bench(self, shapes, **options)

    def tensorrt(self, **options: Any) -> Any:
        """Register with TensorRT: see `workbench.backends.tensorrt.plugin.register` (not run by the project)."""
        return importlib.import_module("workbench.backends.tensorrt.plugin").register(self, **options)


def _alike(
    example: Mapping[str, tuple[int, ...]], first: str, name: str, shape: tuple[int, ...]
) -> tuple[int, ...]:
    """The shape of another input when the first has `shape`: each of its dims as the example's first has it."""
    known = example[first]
    if example[name] == known:
        return shape
    offset = len(known) - len(example[name])
    found = []
    for i, dim in enumerate(example[name]):
        at = i + offset - len(known)  # from the end
        found.append(shape[at] if -at <= len(shape) and known[at] == dim else dim)
    return tuple(found) if len(shape) >= len(found) else tuple(found[len(found) - len(shape) :])


def from_function(made: onnx.FunctionProto) -> Plugin | None:
    """The plugin that a model-local function declares; None for other functions.

    Raises:
        PluginError: the declaration in it cannot be read.
    """
    noted = {item.key: item.value for item in made.metadata_props}
    if made.domain != bodies.DOMAIN or METADATA not in noted:
        return None
    plain = onnx.FunctionProto()
    plain.CopyFrom(made)
    del plain.metadata_props[:]
    plain.metadata_props.extend(item for item in made.metadata_props if item.key != METADATA)
    try:
        data = json.loads(noted[METADATA])
        rule = Rule(
            tuple((str(a), str(b)) for a, b in data["args"]), tuple(map(str, data["grid"])),
            tuple(map(str, data["block"])), str(data["shared"]),
            tuple(map(str, data["requires"])),
        )  # fmt: skip
        found = Plugin(
            made.name, plain.SerializeToString(deterministic=True), str(data["cuda"]), str(data["kernel"]), rule,
            tuple(data["dtypes"]), tuple((name, tuple(shape)) for name, shape in data["example"]),
            Place(f"the kernel of {made.name}"),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        raise PluginError(
            f"the declaration of plugin {made.name!r} in the model cannot be read: {error!r}"
        ) from None
    rule.check(found.name, frozenset([*found.inputs, *found.outputs]), numbers(plain))
    return found


def numbers(made: onnx.FunctionProto) -> frozenset[str]:
    """Attributes that a launch rule may use."""
    kinds = bodies.attribute_types(made)
    return frozenset(name for name, kind in kinds.items() if kind in ("float", "int", ""))


def of(value: Any) -> Plugin:
    """A plugin, or the built-in one of that name."""
    if isinstance(value, Plugin):
        return value
    from . import builtin

    for known in builtin.all_plugins():
        if value == known.name:
            return known
    raise PluginError(
        f"there is no built-in plugin {value!r}; expected a Plugin or one of "
        f"{', '.join(known.name for known in builtin.all_plugins())}"
    )
