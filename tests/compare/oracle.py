"""A comparison that is slow, plain and meant to be obviously right; the tests hold `wb.compare` against it.

Every tensor of the main graph is marked as an output, ONNX Runtime runs the whole model in this process with
its optimisations off, and numpy computes in float64 over all inputs at once. For the local errors the
candidate is cut at every tensor that nodes of both models compute: who reads one gets the reference's value.
Constant nodes are weights. Nothing here is shared with `workbench`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime

Feed = Mapping[str, np.ndarray]
Values = list[dict[str, np.ndarray]]  # one dict per input: tensor -> value


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU, optimisations off, on one thread."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1  # more threads cut products elsewhere and round differently
    options.add_session_config_entry("session.disable_prepacking", "1")  # packed kernels round differently
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def node_outputs(model: onnx.ModelProto) -> list[str]:
    """Every tensor that a node of the main graph produces, in the order of the file."""
    return [name for node in model.graph.node for name in node.output if name]


def every_tensor(model: onnx.ModelProto, feeds: Sequence[Feed]) -> Values:
    """The value of every tensor of the main graph that is an array, for each feed; inputs included."""
    marked = onnx.ModelProto()
    marked.CopyFrom(model)
    present = {output.name for output in marked.graph.output}
    for name in dict.fromkeys(node_outputs(model)):
        if name not in present:
            marked.graph.output.append(onnx.ValueInfoProto(name=name))
    runner = session(marked)
    names = [output.name for output in runner.get_outputs()]
    values: Values = []
    for feed in feeds:
        found = dict(zip(names, runner.run(None, dict(feed)), strict=True))
        values.append({name: v for name, v in {**feed, **found}.items() if isinstance(v, np.ndarray)})
    return values


def measures(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """What `Comparison.table` says of a tensor, from its (reference, candidate) values for all inputs."""
    given = [(np.asarray(reference), np.asarray(candidate)) for reference, candidate in pairs]
    if given[0][0].dtype.kind in "OUS":
        return {"max_abs": float(any(not np.array_equal(a, b) for a, b in given))}
    ref = np.concatenate([a.astype(np.float64).ravel() for a, _ in given])
    cand = np.concatenate([b.astype(np.float64).ravel() for _, b in given])
    both = np.isfinite(ref) & np.isfinite(cand)
    odd = ~both
    alike = (ref[odd] == cand[odd]) | (np.isnan(ref[odd]) & np.isnan(cand[odd]))
    mismatch = not alike.all()
    a, b = (ref, cand) if both.all() else (ref[both], cand[both])
    difference = np.abs(b - a)
    known = a != 0
    relative = difference[known] / np.abs(a[known])
    return {
        "max_abs": np.inf if mismatch else _largest(difference),
        "mean_abs": float(difference.mean()) if difference.size else 0.0,
        "max_rel": _largest(relative),
        "mean_rel": float(relative.mean()) if relative.size else 0.0,
        "cosine": _cosine(a, b),
        "snr_db": _snr(a, difference),
        "nan": int(np.isnan(cand).sum()),
        "inf": int(np.isinf(cand).sum()),
        "ref_nan": int(np.isnan(ref).sum()),
        "ref_inf": int(np.isinf(ref).sum()),
        **_range("ref", ref),
        **_range("cand", cand),
    }


def _largest(values: np.ndarray) -> float:
    return float(values.max()) if values.size else 0.0


def _range(prefix: str, values: np.ndarray) -> dict[str, float]:
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (np.nan, np.nan)
    return {f"{prefix}_min": float(low), f"{prefix}_max": float(high)}


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    scale_a, scale_b = _largest(np.abs(a)), _largest(np.abs(b))
    if scale_a == 0 or scale_b == 0:
        return float(scale_a == scale_b)
    a, b = a / scale_a, b / scale_b
    return float((a @ b) / np.sqrt((a @ a) * (b @ b)))


def _snr(signal: np.ndarray, difference: np.ndarray) -> float:
    if not difference.any():
        return np.inf
    if not signal.any():
        return -np.inf
    scale_s, scale_d = np.abs(signal).max(), difference.max()
    power = ((signal / scale_s) ** 2).sum() / ((difference / scale_d) ** 2).sum()
    return float(10 * np.log10(power) + 20 * (np.log10(scale_s) - np.log10(scale_d)))


def propagated(
    reference: Values, candidate: Values, names: Mapping[str, str] | None = None
) -> dict[str, dict]:
    """Measures of every tensor that both have in one shape. `names`: reference's -> candidate's name."""
    return {
        there: measures((a[here], b[there]) for a, b in zip(reference, candidate, strict=True))
        for here, there in common(reference, candidate, names).items()
    }


def common(reference: Values, candidate: Values, names: Mapping[str, str] | None = None) -> dict[str, str]:
    """reference's name -> candidate's name, of all tensors that can be compared."""
    found = {}
    for here in reference[0]:
        there = (names or {}).get(here, here)
        pairs = [(a[here], b[there]) for a, b in zip(reference, candidate, strict=True) if there in b]
        if pairs and all(a.shape == b.shape and _kind(a) == _kind(b) for a, b in pairs):
            found[here] = there
    return found


def _kind(array: np.ndarray) -> str:
    return "string" if array.dtype.kind in "OUS" else "number"


def local(
    candidate: onnx.ModelProto,
    reference: Values,
    candidate_values: Values,
    names: Mapping[str, str] | None = None,
) -> dict[str, dict]:
    """Measures of what the candidate's pieces make of the reference's values, by the candidate's names."""
    back = {there: here for here, there in common(reference, candidate_values, names).items()}
    weights = {node.output[0] for node in candidate.graph.node if node.op_type == "Constant"}
    pieces, made = apart(candidate, set(back) - weights, set(back), candidate_values[0])
    runner = session(pieces)
    pairs: dict[str, list] = {}
    for values, own in zip(reference, candidate_values, strict=True):
        feed = {
            v.name: values[back[v.name]].astype(own[v.name].dtype, copy=False) for v in runner.get_inputs()
        }
        for tensor, result in zip(made, runner.run(list(made.values()), feed), strict=True):
            pairs.setdefault(tensor, []).append((values[back[tensor]], result))
    fit = {tensor: given for tensor, given in pairs.items() if all(a.shape == b.shape for a, b in given)}
    return {tensor: measures(given) for tensor, given in fit.items()}


def apart(
    model: onnx.ModelProto, borders: set[str], wanted: set[str], values: Mapping[str, np.ndarray]
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The model cut at `borders`: who reads one reads an input of that name, who makes it makes another.

    Returns the model, and for each tensor of `wanted` that a node makes the name of the output that holds it.
    """
    pieces = onnx.ModelProto()
    pieces.CopyFrom(model)
    made = {}
    for node in pieces.graph.node:
        for position, name in enumerate(node.output):
            if name in wanted:
                made[name] = f"{name}/local" if name in borders else name
                node.output[position] = made[name]
    del pieces.graph.output[:]
    pieces.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made.values())
    for name in borders & set(made):
        array = values[name]
        kind = 8 if _kind(array) == "string" else onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        pieces.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, None))
    return pieces, made
