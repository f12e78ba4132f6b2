"""What one edit costs, beside GraphSurgeon doing the same: `python -m tests.bench.edits`.

On transformers of 1,000 to 50,000 nodes, and on one of 10,000 nodes with 5 GB of external weights (a sparse file,
which takes no disk): the CPU time of one edit on an open model, of the first edit after loading, and of load, edit and
save; for GraphSurgeon of load, edit and save, which is what one edit costs there (what it needs for 5 GB is not tried:
it would hold all of it in memory). CPU time, because what else the machine does is no matter of either.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

import workbench as wb
from tests import graphs

GB = 1 << 30
LIMIT = 20.0  # ms for one edit, with 10,000 nodes


def timed(function: Callable[[], object]) -> tuple[float, object]:
    """(ms of CPU, what it gave)."""
    start = time.process_time()
    found = function()
    return (time.process_time() - start) * 1e3, found


def source(nodes: int, folder: Path, external: int = 0) -> Path:
    """A masked transformer in a file; its feed-forward weights in a sparse external file of that many bytes."""
    model = graphs.transformer(nodes, shared=True)
    if external:
        width = external // (4 * (2 * graphs.WIDTH + 1))
        wide = {"up.weight": (graphs.WIDTH, width), "up.bias": (width,), "down.weight": (width, graphs.WIDTH)}
        offset = 0
        for name, dims in wide.items():
            tensor = next(item for item in model.graph.initializer if item.name == name)
            tensor.CopyFrom(onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=dims))
            tensor.data_location = onnx.TensorProto.EXTERNAL
            where = {"location": "weights.bin", "offset": offset, "length": 4 * math.prod(dims)}
            offset += where["length"]
            for key, value in where.items():
                tensor.external_data.add(key=key, value=str(value))
        with (folder / "weights.bin").open("wb") as file:
            os.truncate(file.fileno(), external)
    path = folder / f"{nodes}_{external}.onnx"
    path.write_bytes(model.SerializeToString())
    return path


EDITS: dict[str, Callable[[wb.Model, int], wb.Model]] = {
    "rename a node": lambda m, i: m.rename_node(f"/layers.{i}/mlp/Sigmoid", f"renamed {i}"),
    "rename a tensor": lambda m, i: m.rename_tensor(f"/layers.{i}/mlp/Sigmoid_out", f"tensor {i}"),
    "set an attribute": lambda m, i: m.set_attribute(f"/layers.{i}/attn/Softmax", "axis", -2),
    "insert a node": lambda m, i: m.insert_identity(f"/layers.{i}/mlp/Sigmoid_out"),
    "insert Q/DQ": lambda m, i: m.insert_qdq(f"/layers.{i}/mlp/Sigmoid_out", 0.1),
    "delete a node": lambda m, i: m.delete(f"/layers.{i}/mlp/Sigmoid"),
    "replace an operator": lambda m, i: m.replace_op(f"/layers.{i}/mlp/Sigmoid", "Tanh"),
    "add an output": lambda m, i: m.add_output(f"/layers.{i}/mlp/Sigmoid_out"),
    "reconnect": lambda m, i: m.reconnect(f"/layers.{i}/mlp/Sigmoid", 0, "/layers.0/mlp/Sigmoid_out"),
    "replace a weight": lambda m, i: m.replace_weight("scalar 0.35", np.float32(i)),
    "fold constants": lambda m, i: m.fold_constants(),
    "clean up": lambda m, i: m.clean_up(),
}
WHOLE: dict[str, Callable[[wb.Model, int], wb.Model]] = {
    "set an input's shape": lambda m, i: m.set_input("x", (i + 2, 8, graphs.WIDTH)),
    "replace a weight of shapes": lambda m, i: m.replace_weight("ints[0, 0, 2, 8]", np.array([0, 0, 4, 4])),
}
"""Edits that change the type of nearly every tensor."""


def workbench(path: Path, folder: Path) -> dict[str, float]:
    """Medians in ms, each over seven places of the graph."""
    loading, model = timed(lambda: wb.load(path))
    blocks = sum(node.op_type == "Softmax" for node in model.ir.graph)
    first, _ = timed(lambda: model.insert_identity("/layers.0/mlp/Sigmoid_out"))
    found = {"load": loading, "first edit": first}
    for name, edit in {**EDITS, **WHOLE}.items():
        places = [(2 * k + 1) * blocks // 14 for k in range(7)]
        times = [timed(lambda i=i, edit=edit: edit(model, i)) for i in places]  # type: ignore[misc]
        found[name] = statistics.median(ms for ms, _ in times)
        found[f"{name}, undone"] = statistics.median(
            timed(lambda m=made: m.ir and model.ir)[0]  # type: ignore[misc, attr-defined]
            for _, made in times
        )

    def work() -> None:
        wb.load(path).insert_identity("/layers.0/mlp/Sigmoid_out").save(folder / "out.onnx")

    return found | {"load, edit, save": min(timed(work)[0] for _ in range(3))}


def surgeon(path: Path, folder: Path) -> dict[str, float]:
    """The same insertion with GraphSurgeon, in ms."""
    import onnx_graphsurgeon as gs

    def work() -> None:
        graph = gs.import_onnx(onnx.load(path))
        before = next(node for node in graph.nodes if node.name == "/layers.0/mlp/Sigmoid").outputs[0]
        after = gs.Variable("new", dtype=before.dtype)
        for user in list(before.outputs):
            user.inputs[user.inputs.index(before)] = after
        graph.nodes.append(gs.Node("Identity", "identity", inputs=[before], outputs=[after]))
        graph.cleanup().toposort()
        onnx.save(gs.export_onnx(graph), folder / "gs.onnx")

    return {"load, edit, save": min(timed(work)[0] for _ in range(3))}


def run(folder: Path, sizes: tuple[int, ...] = (1_000, 10_000, 50_000), external: int = 5 * GB) -> dict:
    """All figures, by graph."""
    found = {}
    workbench(source(1_000, folder), folder)  # what is imported on first use is no matter of an edit
    for nodes, weights in [*((size, 0) for size in sizes), (10_000, external)]:
        path = source(nodes, folder, weights)
        name = f"{nodes:,} nodes" + (f", {weights / GB:.0f} GB" if weights else "")
        found[name] = {"workbench": workbench(path, folder)}
        if not weights:
            found[name]["GraphSurgeon"] = surgeon(path, folder)
    return found


def text(found: dict) -> str:
    """The figures as a table; edits that take longer than they should are marked."""
    lines = [
        "Edits (ms of CPU; median of seven places)",
        f"{'':34}" + "".join(f"{name:>20}" for name in found),
    ]
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
            own = columns["workbench"]
            slow = {edit: ms for edit, ms in own.items() if edit in ("first edit", *EDITS, *WHOLE) and ms > LIMIT}
            mark = f"MISSED {slow}" if slow else "met"
            lines.append(f"{name}: an edit, the first one too, in under {LIMIT:.0f} ms: {mark}")
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="workbench-bench-") as temporary:
        figures = run(Path(temporary))
    print(text(figures))
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(figures, indent=1))
