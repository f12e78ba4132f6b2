"""Kernels on a GPU: every built-in is right, bad kernels are found and cost their worker alone, whole models run."""

from __future__ import annotations

import re

import numpy as np
import pytest
from gpu.block import feeds, transformer_block, with_plugins
from gpu.real import SHAPES, recognition

import workbench as wb
from workbench.backends import Worker
from workbench.plugins import builtin, gelu, plugin

pytestmark = pytest.mark.gpu
BODY = "FusedTwice (x) => (y) { y = Add (x, x) }"
KERNEL = """
extern "C" __global__ void twice(const T* x, T* y, long long n)
{
    const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i < n) y[i] = T(2.f * float(x[i]));
}
"""


def twice(cuda: str = KERNEL, **options) -> wb.plugins.Plugin:
    return plugin("FusedTwice", body=BODY, cuda=cuda, dtypes=["float32"], **options)


@pytest.mark.parametrize("made", builtin.all_plugins(), ids=lambda made: made.name)
def test_every_built_in_is_right(made):
    done = made.check()
    assert done.ok, str(done)
    kernels = ["cuda"] * 20 + ["triton"] * 20 * bool(made.triton and not done.left_out)
    assert [case.kernel for case in done.cases] == kernels


BAD = {
    "behind": (
        "i < n",
        "i <= n",
        "the kernel wrote out of bounds: 4 bytes behind its last element, tensor 'y'",
    ),
    "before": (
        "y[i]",
        "y[i - 1]",
        "the kernel wrote out of bounds: 4 bytes before its first element, tensor 'y'",
    ),
    "unwritten": (
        "i < n",
        "i < n && i % 5",
        "left 20 of 100 elements of output 'y' unwritten, the first at 0",
    ),
    "input": ("y[i] =", "((T*)x)[i] = y[i] =", "the kernel changed its input 'x'"),
    "wrong": ("2.f", "3.f", "output 'y' at .*: got .*, the body gives .*; relative error"),
    "address": ("y[i]", "y[i + (1ll << 40)]", "CUDA_ERROR_ILLEGAL_ADDRESS.*the worker was replaced"),
    "endless": (
        "if (i < n)",
        "while (n) __threadfence(); if (i < n)",
        "gave no answer within 4 s.*was replaced",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_kernel_is_found_and_the_next_one_works(kind):
    good, bad, says = BAD[kind]
    done = twice(KERNEL.replace(good, bad)).check({"x": (100,)}, timeout=4)
    assert not done.ok and re.search(says, done.cases[0].verdict), done.cases[0].verdict
    assert twice().check({"x": (100,)}).ok


def test_a_kernel_that_does_not_compile_is_shown_with_its_line():
    with pytest.raises(wb.errors.CompileError) as caught:
        twice(KERNEL.replace("2.f", "oops")).check({"x": (10,)})
    assert 'identifier "oops" is undefined' in str(caught.value)


@pytest.fixture(scope="module")
def models():
    plain = transformer_block(2, 64, 128, 4, "float32")
    return plain, with_plugins(plain)


def test_cpu_against_gpu_layer_by_layer(models):
    plain, plugged = models
    c = wb.compare(plugged, plugged, feeds(plain), candidate_backend="cuda", tolerance=1e-3, progress=False)
    assert c.ok and set(c.table["status"]) == {"compared"}
    assert c.meta["candidate_runtime"] == "cuda"
    called = [name for name in c.table["node"] if name.startswith("Fused")]
    assert len(called) == 5  # the skip + norm makes two tensors
    measured = c.table[c.table["node"].isin(called)]
    assert (measured["max_abs"] < 1e-4).all() and (measured["local_max_abs"] < 1e-4).all()
    assert (c.table["max_abs"] > 0).any()  # another machine did it
    pair = c["y"]
    assert np.allclose(pair.reference, pair.candidate, atol=1e-3)


def test_plugins_against_the_original_on_the_gpu(models):
    plain, plugged = models
    c = wb.compare(plain, plugged, feeds(plain), candidate_backend="cuda", tolerance=1e-3, progress=False)
    assert c.ok and c.table.loc["y", "status"] == "compared"


def test_a_profile_has_every_layer_with_gpu_time(models):
    plain, plugged = models
    p = wb.profile(plugged, "cuda", feeds(plain), runs=5, progress=False)
    fused = p.table[p.table["op_type"].str.startswith("Fused")]
    assert len(fused) == 4 and (fused["ms"] > 0).all() and (fused["bytes"] > 0).all()
    assert p.mapped > 0.95 and p.latency_ms > 0
    assert p.meta["cuda_graph"] == "yes" and len(p.meta["kernels"]) == 4
    assert {"up", "down"} <= {name for nodes in p.table["nodes"] for name in nodes}


def test_shapes_may_change_and_graphs_replay(models):
    model = gelu.model(gelu.shapes((3, 5)))
    free = wb.load(model.to_proto())
    proto = free.to_proto()
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    with Worker("cuda") as worker:
        session = worker.load(proto.SerializeToString())
        for rows in (3, 7, 0, 3):
            x = np.random.default_rng(rows).standard_normal((rows, 5)).astype(np.float32)
            (y,) = session.run({"x": x}).values()
            assert y.shape == x.shape and np.allclose(y, builtin.named("gelu").reference(x), atol=1e-5)
            assert session.profile({"x": x}, runs=2)["graph"] == ""


TRITON = """
import triton, triton.language as tl

@triton.jit
def kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n)
    tl.store(y_ptr + at, x * 2.0, mask=at < n)

def launch(inputs, outputs):
    n = inputs[0].numel()
    kernel[(triton.cdiv(n, 128),)](inputs[0], outputs[0], n, BLOCK=128)
"""
BAD_TRITON = {
    "wrong": ("2.0", "3.0", "output 'y' at .*: got .*, the body gives .*; relative error"),
    "behind": ("x * 2.0, mask=at < n", "x * 2.0", "wrote out of bounds: . bytes behind its last element, tensor 'y'"),
    "unwritten": ("triton.cdiv(n, 128)", "0", "left 100 of 100 elements of output 'y' unwritten, the first at 0"),
    "python": ("BLOCK=128", "BLOCK=oops", "Triton kernel of plugin 'FusedTwice': NameError: name 'oops' is not"),
}


@pytest.mark.parametrize("kind", BAD_TRITON)
def test_a_bad_triton_kernel_is_found(kind):
    pytest.importorskip("triton")
    good, bad, says = BAD_TRITON[kind]
    done = twice(triton=TRITON.replace(good, bad)).check({"x": (100,)})
    assert [(case.kernel, case.ok) for case in done.cases] == [("cuda", True), ("triton", False)]
    assert re.search(says, done.cases[1].verdict), done.cases[1].verdict


def test_a_model_runs_with_a_triton_kernel_also_as_a_cuda_graph():
    pytest.importorskip("triton")
    model = gelu.model(gelu.shapes((100, 33))).to_proto().SerializeToString()
    x = np.random.default_rng(0).standard_normal((100, 33)).astype(np.float32)
    with Worker("cuda", timeout=120) as worker:
        session = worker.load(model, triton={gelu.name: gelu.triton})
        (y,) = session.run({"x": x}).values()
        assert np.allclose(y, gelu.reference(x), atol=1e-5)
        done = session.profile({"x": x}, runs=3)
        assert done["graph"] == "" and min(done["gpu_ms"]) > 0
        with pytest.raises(wb.errors.BackendFailed) as caught:
            worker.load(model, triton={"FusedOther": TRITON}).run({"x": x})
        assert "were given for 'FusedOther'; the kernels of this model are of 'FusedGelu'" in str(caught.value)


def test_both_kernels_are_timed_side_by_side():
    pytest.importorskip("triton")
    done = gelu.bench((1024, 1024), dtypes=["float32"], runs=5)
    assert list(done.table["what"]) == ["kernel", "triton", "unfused", "optimised"] and (done.table["ms"] > 0).all()


def test_a_real_model_layer_by_layer_and_its_profile():
    plain, plugged = recognition()
    given = {"count": 1, "shapes": SHAPES, "candidate_backend": "cuda", "tolerance": 1e-3, "progress": False}
    c = wb.compare(plugged, plugged, **given)
    assert c.ok and set(c.table["status"]) == {"compared"}
    fused = c.table[c.table["node"].str.startswith("Fused")]
    assert fused["node"].nunique() == 17 and (fused["local_max_abs"] < 1e-4).all()
    assert wb.compare(plain, plugged, **given).ok
    p = wb.profile(plugged, "cuda", shapes=SHAPES, runs=3, progress=False)
    assert len(p.meta["kernels"]) == 17 and p.mapped > 0.95 and not p.meta["without_kernel"]
