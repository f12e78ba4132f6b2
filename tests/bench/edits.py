"""What one edit costs, beside GraphSurgeon doing the same: `python -m tests.bench.edits`.

On transformers of 1,000 to 50,000 nodes, and on one of 10,000 nodes with 5 GB of external weights (a sparse file, which
takes no disk): the time of one edit on an open model, of the first edit after loading, and of load, edit and save; for
GraphSurgeon of load, edit and save, which is what one edit costs there (what it needs for 5 GB is not tried: it would
hold all of it in memory).
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnx

import workbench as wb
from tests import wide_graphs as graphs

GB = 1 << 30
LIMIT = 20.0  # ms for one edit, with 10,000 nodes


def timed(function: Callable[[], object]) -> tuple[float, object]:
    """(ms, what it gave)."""
    start = time.perf_counter()
    found = function()
    return (time.perf_counter() - start) * 1e3, found


def source(nodes: int, folder: Path, external: int = 0) -> Path:
    """A masked transformer in a file; its w1 and w2 in a sparse external file of that many bytes."""
    model = graphs.transformer(nodes)
    if external:
        width = external // 2 // (4 * graphs.WIDTH)
        for name, dims in (("w1", (graphs.WIDTH, width)), ("w2", (width, graphs.WIDTH))):
            tensor = next(item for item in model.graph.initializer if item.name == name)
            tensor.CopyFrom(onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=dims))
            tensor.data_location = onnx.TensorProto.EXTERNAL
            offset = 0 if name == "w1" else external // 2
            where = {"location": "weights.bin", "offset": offset, "length": 4 * graphs.WIDTH * width}
            for key, value in where.items():
                tensor.external_data.add(key=key, value=str(value))
        with (folder / "weights.bin").open("wb") as file:
            os.truncate(file.fileno(), external)
    path = folder / f"{nodes}_{external}.onnx"
    path.write_bytes(model.SerializeToString())
    return path


EDITS: dict[str, Callable[[wb.Model, int], wb.Model]] = {
    "rename a node": lambda m, i: m.rename_node(f"block_{i}/mlp/Relu", f"renamed {i}"),
    "rename a tensor": lambda m, i: m.rename_tensor(f"block_{i}/mlp/Relu_out", f"tensor {i}"),
    "set an attribute": lambda m, i: m.set_attribute(f"block_{i}/attention/Softmax", "axis", -2),
    "insert a node": lambda m, i: m.insert_identity(f"block_{i}/mlp/Relu_out"),
    "insert Q/DQ": lambda m, i: m.insert_qdq(f"block_{i}/mlp/Relu_out", 0.1),
    "delete a node": lambda m, i: m.delete(f"block_{i}/mlp/Relu"),
    "replace an operator": lambda m, i: m.replace_op(f"block_{i}/mlp/Relu", "Sigmoid"),
    "add an output": lambda m, i: m.add_output(f"block_{i}/mlp/Relu_out"),
}


def workbench(path: Path, folder: Path) -> dict[str, float]:
    """Medians in ms, each over seven places of the graph."""
    loading, model = timed(lambda: wb.load(path))
    blocks = len(model.ir.graph) // len(graphs._block("x", "b", "masked")[0])
    first, _ = timed(lambda: model.insert_identity("block_0/mlp/Relu_out"))
    found = {"load": loading, "first edit": first}
    for name, edit in EDITS.items():
        places = [(2 * k + 1) * blocks // 14 for k in range(7)]
        times = [timed(lambda i=i, edit=edit: edit(model, i)) for i in places]  # type: ignore[misc]
        found[name] = statistics.median(ms for ms, _ in times)
        found[f"{name}, undone"] = statistics.median(
            timed(lambda m=made: m.ir and model.ir)[0]  # type: ignore[misc, attr-defined]
            for _, made in times
        )
    one, _ = timed(lambda: wb.load(path).insert_identity("block_0/mlp/Relu_out").save(folder / "out.onnx"))
    return found | {"load, edit, save": one}


def surgeon(path: Path, folder: Path) -> dict[str, float]:
    """The same insertion with GraphSurgeon, in ms."""
    import onnx_graphsurgeon as gs

    def work() -> None:
        graph = gs.import_onnx(onnx.load(path))
        before = next(node for node in graph.nodes if node.name == "block_0/mlp/Relu").outputs[0]
        after = gs.Variable("new", dtype=before.dtype)
        for user in list(before.outputs):
            user.inputs[user.inputs.index(before)] = after
        graph.nodes.append(gs.Node("Identity", "identity", inputs=[before], outputs=[after]))
        graph.cleanup().toposort()
        onnx.save(gs.export_onnx(graph), folder / "gs.onnx")

    return {"load, edit, save": min(timed(work)[0] for _ in range(2))}


def run(folder: Path, sizes: tuple[int, ...] = (1_000, 10_000, 50_000), external: int = 5 * GB) -> dict:
    """All figures, by graph."""
    found = {}
    for nodes, weights in [*((size, 0) for size in sizes), (10_000, external)]:
        path = source(nodes, folder, weights)
        name = f"{nodes:,} nodes" + (f", {weights / GB:.0f} GB" if weights else "")
        found[name] = {"workbench": workbench(path, folder)}
        if not weights:
            found[name]["GraphSurgeon"] = surgeon(path, folder)
    return found


def text(found: dict) -> str:
    """The figures as a table; edits that take longer than they should are marked."""
    lines = ["Edits (ms; median of seven places)", f"{'':34}" + "".join(f"{name:>20}" for name in found)]
    for row in next(iter(found.values()))["workbench"]:
        cells = [columns["workbench"][row] for columns in found.values()]
        lines.append(f"{row:34}" + "".join(f"{cell:20.2f}" for cell in cells))
    peers = [columns.get("GraphSurgeon", {}).get("load, edit, save") for columns in found.values()]
    lines.append(
        f"{'GraphSurgeon: load, edit, save':34}" + "".join(f"{p:20.2f}" if p else f"{'-':>20}" for p in peers)
    )
    usual = [columns["workbench"]["insert a node"] for columns in found.values()]
    whole = [columns["workbench"]["load, edit, save"] for columns in found.values()]
    for label, mine in (("times faster, one edit", usual), ("times faster, load to save", whole)):
        cells = [f"{p / m:20.1f}" if p else f"{'-':>20}" for p, m in zip(peers, mine, strict=True)]
        lines.append(f"{label:34}" + "".join(cells))
    for name, columns in found.items():
        if name.startswith("10,000"):
            slow = {edit: ms for edit, ms in columns["workbench"].items() if edit in EDITS and ms > LIMIT}
            mark = f"MISSED {slow}" if slow else "met"
            lines.append(f"{name}: edits after the first in under {LIMIT:.0f} ms: {mark}")
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="workbench-bench-") as temporary:
        figures = run(Path(temporary))
    print(text(figures))
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(figures, indent=1))
