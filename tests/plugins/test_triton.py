"""Triton kernels as part of a check and of a bench: which kernels run, and what is said where Triton is missing.

The worker is a stand-in (`no_gpu.py`).
"""

from __future__ import annotations

import pytest
from plugins.no_gpu import Worker

import workbench as wb
from workbench.backends import kernels as backend
from workbench.compare import kernels as compare
from workbench.errors import BackendNotInstalled, PluginError
from workbench.plugins import plugin
from workbench.profile import kernels as profile

CUDA = 'extern "C" __global__ void twice(const T* x, T* y, long long n) {}'
TRITON = "def launch(inputs, outputs):\n    outputs[0][:] = inputs[0] * 2\n"
WHY = "triton cannot be imported (No module named 'triton'); install triton and a build of torch for CUDA"


def twice(triton: str = TRITON) -> wb.plugins.Plugin:
    return plugin("FusedTwice", body="FusedTwice (x) => (y) { y = Add (x, x) }", cuda=CUDA, triton=triton)


@pytest.fixture(autouse=True)
def worker(monkeypatch):
    monkeypatch.setattr(compare, "Worker", Worker)
    monkeypatch.setattr(profile, "Worker", Worker)
    monkeypatch.setattr(Worker, "why", "")
    return Worker


def test_a_check_runs_both_kernels_in_the_same_cases():
    done = twice().check()
    cuda, triton = ([c for c in done.cases if c.kernel == kernel] for kernel in ("cuda", "triton"))
    assert done.ok and not done.left_out and len(cuda) == len(triton) == 20
    assert [(c.what, c.dtype, c.shapes) for c in cuda] == [(c.what, c.dtype, c.shapes) for c in triton]
    assert list(done.table["kernel"]) == ["cuda"] * 20 + ["triton"] * 20


def test_a_wrong_triton_kernel_is_found_and_named():
    done = twice(TRITON + "# wrong").check({"x": (2, 3)}, dtypes=["float32"])
    assert [(case.kernel, case.ok) for case in done.cases] == [("cuda", True), ("triton", False)]
    assert str(done).startswith(
        "FusedTwice on no GPU: 1 of 2 cases are fine\n  triton, given shapes, float32 float32[2,3]: output 'y' at"
    )


def test_kernels_can_be_chosen():
    for kernel in ("cuda", "triton"):
        done = twice().check({"x": (4,)}, dtypes=["float32"], kernels=[kernel])
        assert [case.kernel for case in done.cases] == [kernel]
    with pytest.raises(PluginError) as caught:
        twice("").check(kernels=["triton"])
    assert str(caught.value) == (
        "plugin 'FusedTwice' has no kernel 'triton'; got kernels=['triton'], expected some of ['cuda']; declare one "
        "with cuda= or triton="
    )


def test_where_triton_is_missing_it_is_said_and_the_cuda_kernel_is_checked(worker, monkeypatch):
    monkeypatch.setattr(worker, "why", WHY)
    done = twice().check({"x": (4,)}, dtypes=["float32"])
    assert done.ok and [case.kernel for case in done.cases] == ["cuda"]
    assert str(done) == f"FusedTwice on no GPU: 1 of 1 cases are fine; its Triton kernel was not run: {WHY}"
    assert WHY in str(twice().bench({"x": (4, 4)}, rates=profile.Rates(1e12, {})))
    for verb in (twice().check, twice().bench):
        with pytest.raises(BackendNotInstalled) as caught:
            verb({"x": (4,)}, kernels=["triton"])
        assert str(caught.value) == f"the Triton kernel of plugin 'FusedTwice' cannot run: {WHY}"
    assert twice("").check({"x": (4,)}).left_out == ""


def test_a_bench_has_both_side_by_side_in_table_and_figure():
    done = twice().bench([{"x": (4, 4)}, {"x": (8, 8)}], dtypes=["float32"], runs=3, rates=profile.Rates(1e12, {}))
    table = done.table
    assert list(table["what"]) == ["kernel", "triton", "unfused", "optimised"] * 2
    assert table.groupby("what")["ms"].first().to_dict() == {
        "kernel": 1.0, "triton": 2.0, "unfused": 1.0, "optimised": 1.0,
    }  # fmt: skip
    assert list(table.loc[table["what"] == "triton", "speedup"]) == [0.5, 0.5]
    marks = {trace.name: trace.marker.symbol for trace in done.plot().data if trace.name in set(table["what"])}
    assert marks == {"kernel": "circle", "triton": "square", "unfused": "x", "optimised": "diamond"}


def test_a_source_that_cannot_be_a_triton_kernel_is_refused():
    with pytest.raises(PluginError) as caught:
        twice("import triton\ndef launch(:\n")
    assert str(caught.value) == "plugin 'FusedTwice': line 2 of triton= is no Python (invalid syntax)"
    with pytest.raises(PluginError) as caught:
        twice("def start(): pass")
    assert str(caught.value) == "plugin 'FusedTwice': triton= defines no launch(inputs, outputs, **attributes)"


def test_without_any_kernel_there_is_nothing_to_check_or_time():
    bare = plugin("FusedTwice", body="FusedTwice (x) => (y) { y = Add (x, x) }")
    for verb in (bare.check, bare.bench):
        with pytest.raises(PluginError) as caught:
            verb()
        assert str(caught.value) == "plugin 'FusedTwice' has no CUDA kernel; give one with cuda="


def test_python_does_not_travel_in_a_model():
    made = twice()
    model = made.model(made.shapes((4,)))
    assert b"def launch" not in model.to_proto().SerializeToString()
    assert backend.options(made, "triton") == {"triton": {"FusedTwice": TRITON}}
    assert backend.options(made, "cuda") == {}


def test_the_reason_why_triton_is_missing():
    pytest.importorskip("torch")
    from workbench.backends.cuda.triton import missing

    try:
        import triton  # noqa: F401
    except ImportError:
        assert missing() == WHY
