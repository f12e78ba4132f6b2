"""A model as a runtime sees it, for comparing protos that were encoded in different ways."""

from __future__ import annotations

import onnx

from workbench.model.info import from_value_info


def plain(model: onnx.ModelProto) -> tuple:
    """Nodes, weights and ports as values, attributes and weights in the order of their names."""

    def graph(g) -> tuple:
        weights = sorted((t.name, *tensor(t)) for t in g.initializer)
        ports = [[from_value_info(value) for value in side] for side in (g.input, g.output)]
        return [node(n) for n in g.node], weights, ports

    def node(n: onnx.NodeProto) -> tuple:
        attributes = sorted((attribute(a) for a in n.attribute), key=lambda a: a[0])
        return n.name, n.op_type, n.domain, tuple(n.input), tuple(n.output), attributes

    def tensor(t: onnx.TensorProto) -> tuple:
        return t.data_type, tuple(t.dims), onnx.numpy_helper.to_array(t).tobytes()

    def attribute(a: onnx.AttributeProto) -> tuple:
        if a.type == onnx.AttributeProto.GRAPH:
            return a.name, graph(a.g)
        if a.type == onnx.AttributeProto.TENSOR:
            return a.name, *tensor(a.t)
        return a.name, a.ref_attr_name, str(onnx.helper.get_attribute_value(a)) if not a.ref_attr_name else ""

    functions = [(f.domain, f.name, [node(n) for n in f.node]) for f in model.functions]
    opsets = sorted((o.domain, o.version) for o in model.opset_import)
    return graph(model.graph), functions, opsets, model.ir_version
