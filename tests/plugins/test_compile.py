"""Compiling kernels without a GPU: every built-in for every architecture, errors in lines of the user, occupancy."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.backends import Worker
from workbench.backends.kernels import compiled
from workbench.errors import BackendFailed, CompileError, PluginError
from workbench.plugins import builtin, gelu, layer_norm, plugin
from workbench.plugins.declaration import Place
from workbench.plugins.magic import declare
from workbench.plugins.occupancy import LIMITS, occupancy
from workbench.plugins.source import ARCHS, Resources, parameters, resources

pytest.importorskip("cuda.bindings.nvrtc")

BODY = "FusedTwice (x) => (y) { y = Add (x, x) }"
GOOD = """
extern "C" __global__ void twice(const T* x, T* y, long long n)
{
    long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i < n) y[i] = T(2.f * float(x[i]));
}
"""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of its own, empty at first."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "workbench" / "kernels"


ONE_OF_A_KIND = ("FusedBiasRelu", "FusedBiasSilu")  # the source of FusedBiasGelu with another activation


@pytest.mark.parametrize("made", builtin.all_plugins(), ids=lambda made: made.name)
def test_every_built_in_compiles_for_every_architecture_without_spills(made):
    archs = ("sm_90",) if made.name in ONE_OF_A_KIND else ARCHS
    report = made.compile(archs=archs)
    table = report.table
    assert list(table.index) == [(dtype, arch) for dtype in ("float32", "float16") for arch in archs]
    assert (table[["spill_stores", "spill_loads"]] == 0).all(axis=None)
    assert (table["registers"] <= 128).all() and (table["occupancy"] >= 0.25).all()
    assert all(kernel.cubin.startswith(b"\x7fELF") for kernel in report.kernels)


def test_cubins_are_kept_by_content(cache):
    first = gelu.compile(archs=["sm_90"])
    again = gelu.compile(archs=["sm_90"])
    assert [k.cubin for k in again.kernels] == [k.cubin for k in first.kernels]
    assert all(kernel.cached for kernel in again.kernels)
    other = plugin("FusedGelu", body=gelu.body, cuda=gelu.cuda + "// changed", args={"n": "size(x)"})
    assert not any(kernel.cached for kernel in other.compile(archs=["sm_90"]).kernels)
    assert len(list(cache.glob("*.cubin"))) == len(list(cache.glob("*.json"))) >= 4


def test_an_error_names_the_line_of_the_cell():
    with pytest.raises(CompileError) as caught:
        declare("FusedTwice --body body", GOOD.replace("threadIdx.x;", "threadIdx.z + oops;"), {"body": BODY})
    text = 'identifier "oops" is undefined'
    assert caught.value.errors == [(5, text)]  # the magic is line 1 of the cell
    assert f"line 5 of the cell: {text}\n" in str(caught.value) and "blockIdx.x * 256ll" in str(caught.value)
    assert str(caught.value).startswith(
        "the kernel of plugin 'FusedTwice' does not compile for sm_80 with T = float; "
    )


def test_ipython_shows_a_compile_error_without_the_way_through_workbench():
    error = CompileError("the kernel of plugin 'F' does not compile", [])
    assert error._render_traceback_() == ["CompileError: the kernel of plugin 'F' does not compile"]


def test_an_error_names_the_line_of_the_file():
    broken = plugin("FusedTwice", body=BODY, cuda="""
        extern "C" __global__ void twice(const T* x, T* y, long long n)
        {
            y[0] = missing;
        }""")  # fmt: skip
    with pytest.raises(CompileError) as caught:
        broken.compile(archs=["sm_90"])
    ((line, text),) = caught.value.errors
    assert text == 'identifier "missing" is undefined'
    assert Path(__file__).read_text().splitlines()[line - 1].strip() == "y[0] = missing;"


def test_a_kernel_must_take_what_it_will_be_given():
    wrong = plugin(
        "FusedTwice", body=BODY, cuda=GOOD.replace("long long n)", "int n)"), place=Place("the cell", 2)
    )
    with pytest.raises(CompileError) as caught:
        wrong.compile(archs=["sm_90"])
    wanted = "kernel twice must take (const float* x, float* y, long long n)"
    assert caught.value.errors == [(3, wanted)]


def test_headers_of_cuda_can_be_included():
    source = (
        "#include <cuda_fp16.h>\n" + GOOD.replace("T(2.f * float(x[i]))", "x[i]") + "__device__ __half h;"
    )
    assert len(plugin("FusedTwice", body=BODY, cuda=source).compile(archs=["sm_90"]).kernels) == 2


def test_parameters_follow_the_declaration():
    inputs = layer_norm.shapes((2, 8), "float16")
    found = parameters(layer_norm, layer_norm.specs(inputs), layer_norm.launch(inputs))
    assert [kind for kind, _ in found] == ["const wb::half*"] * 3 + [
        "wb::half*",
        "long long",
        "long long",
        "float",
    ]


def test_a_plugin_without_a_kernel_is_refused():
    with pytest.raises(PluginError, match="plugin 'FusedTwice' has no CUDA kernel; give one with cuda="):
        plugin("FusedTwice", body=BODY).compile()


def test_an_endless_compilation_ends_its_worker_alone():
    endless = plugin("FusedTwice", body=BODY, cuda=GOOD + """
        template <int a, int b> struct Deep { enum { v = Deep<a - 1, b>::v + Deep<a - 1, b + 1>::v }; };
        template <int b> struct Deep<0, b> { enum { v = b }; };
        __device__ int deep = Deep<150, 0>::v;""")  # fmt: skip
    with Worker("nvrtc") as worker:
        worker.version  # noqa: B018 - its start does not count
        worker.timeout = 1.5
        from workbench.errors import BackendTimeout

        with pytest.raises((BackendTimeout, CompileError)):
            compiled(endless, endless.shapes(), None, "sm_90", lambda **given: worker.call("compile", **given), "x")
    assert plugin("FusedTwice", body=BODY, cuda=GOOD).compile(archs=["sm_90"]).kernels


def test_the_report_of_ptxas_is_read():
    log = (
        "ptxas info    : 0 bytes gmem\nptxas info    : Compiling entry function 'k' for 'sm_90'\n"
        "ptxas info    : Function properties for k\n"
        "ptxas         .     16 bytes stack frame, 24 bytes spill stores, 8 bytes spill loads\n"
        "ptxas info    : Used 40 registers, used 1 barriers, 128 bytes smem\n"
        "ptxas info    : Compiling entry function 'other' for 'sm_90'\nptxas info    : Used 12 registers\n"
    )
    assert resources(log, "k") == Resources(40, 24, 8, 16, 128)
    assert resources(log, "other") == Resources(12, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("arch", "threads", "registers", "shared", "expected"),
    [
        # values of the occupancy calculator that comes with CUDA
        ("sm_80", 256, 32, 0, (1.0, 8, "warps")),
        ("sm_80", 256, 40, 0, (0.75, 6, "registers")),
        ("sm_80", 1024, 64, 0, (0.5, 1, "registers")),
        ("sm_80", 32, 16, 0, (0.5, 32, "blocks")),
        ("sm_86", 256, 32, 0, (1.0, 6, "warps")),
        ("sm_90", 128, 32, 100 << 10, (0.125, 2, "shared memory")),
        ("sm_90", 128, 32, 228 << 10, (0.0, 0, "shared memory")),
        ("sm_120", 256, 128, 0, (1 / 3, 2, "registers")),
    ],
)
def test_occupancy(arch, threads, registers, shared, expected):
    found = occupancy(arch, threads, registers, shared)
    assert (pytest.approx(found.share), found.blocks, found.limit) == expected


def test_every_architecture_has_limits():
    assert set(LIMITS) == set(ARCHS)


def test_the_magic_declares_and_reports():
    variable, made, report = declare(
        'FusedTwice --body body --out twice --args "n=size(x)" --grid "ceil_div(size(x), 256)" --archs sm_90 '
        "--example shape",
        GOOD,
        {"body": BODY, "shape": {"x": (64, 64)}},
    )
    assert variable == "twice" and made.example == (("x", (64, 64)),) and len(report.kernels) == 2
    assert "kernel twice compiled 2 times (NVRTC 13" in str(report)
    for line, says in (
        ("FusedTwice", "the following arguments are required: --body"),
        ("FusedTwice --body nothing", "there is no variable 'nothing'; define it in a cell before"),
        ("FusedTwice --body body --args n", "got --args .'n'., expected name=expression"),
    ):
        with pytest.raises(PluginError, match=says):
            declare(line, GOOD, {"body": BODY})


@pytest.mark.parametrize("line, says", [
    ("FusedTwice --body 'body", "%%cuda_plugin: \"FusedTwice --body 'body\" cannot be read: No closing quotation"),
    ("FusedTwice --body body --out 1x", "%%cuda_plugin FusedTwice: got --out '1x', expected the name of a variable"),
])  # fmt: skip
def test_a_line_of_the_magic_that_cannot_be_read_is_refused(line, says):
    with pytest.raises(PluginError) as caught:
        declare(line, GOOD, {"body": BODY})
    assert str(caught.value) == says


def test_a_kernel_that_could_not_be_found_by_its_name_is_an_error():
    with pytest.raises(CompileError) as caught:
        declare("FusedTwice --body body --archs sm_90", GOOD.replace('extern "C" ', ""), {"body": BODY})
    text = 'kernel twice has no C linkage; write extern "C" in front of __global__'
    assert caught.value.errors == [(3, text)]  # line 2 is empty


def test_an_open_bracket_is_said_to_be_one():
    source = GOOD.rstrip().rstrip("}")
    with pytest.raises(CompileError) as caught:
        declare("FusedTwice --body body --archs sm_90", source, {"body": BODY})
    ((line, text),) = caught.value.errors
    assert line == len(source.splitlines()) + 1 and text.endswith("(at the end of the source: is a bracket left open?)")


def test_an_error_of_the_assembler_has_its_text():
    with pytest.raises(CompileError) as caught:
        declare("FusedTwice --body body --archs sm_90", GOOD.replace("if (", 'asm("bogus;"); if ('), {"body": BODY})
    assert "bogus" in caught.value.errors[0][1] and not caught.value.errors[0][1].startswith(":")


def test_an_architecture_that_is_not_known_is_named():
    with pytest.raises(BackendFailed, match=r"NVRTC [\d.]+ has no architecture 'sm_12'; expected one of .*, sm_90"):
        gelu.compile(archs=["sm_12"])
