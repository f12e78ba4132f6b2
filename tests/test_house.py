"""The house: public names, import directions, what an import costs, what is packaged, and what files may
say."""

from __future__ import annotations

import ast
import re
import resource
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import workbench as wb

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "workbench"

PUBLIC = {
    "Comparison",
    "GraphView",
    "Model",
    "Profile",
    "__version__",
    "backends",
    "compare",
    "diff",
    "edits",
    "errors",
    "figures",
    "fusions",
    "inputs",
    "load",
    "plugin",
    "plugins",
    "precision",
    "profile",
    "profile_diff",
    "replay",
    "report",
    "tensorrt",
}

# Each may import from the groups before its own and from its neighbours, but not in a circle. Change
# CONTRIBUTING too.
ORDER = (
    ("errors", "metrics"),
    ("model", "inputs"),
    ("edits", "segments", "diff"),
    ("plugins",),
    ("backends",),
    ("compare", "profile"),
    ("fusions", "precision", "tensorrt"),
    ("view", "figures", "report"),
    ("widgets",),
    ("demo", "cli"),
)
LEVEL = {module: level for level, group in enumerate(ORDER) for module in group}
UPWARD = {
    ("compare", "figures"),
    ("profile", "figures"),
    ("precision", "figures"),
}  # .plot(); only inside a function

HEAVY = ("IPython", "onnx", "onnx_ir", "onnxruntime", "pandas", "plotly", "polygraphy", "torch", "tqdm")
RUNTIMES = ("cuda", "cupy", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "torch")
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(f"{name} is not there")
sys.meta_path.insert(0, Blocker())
"""


def python(code: str) -> str:
    """Standard output of a fresh interpreter that runs ``code`` with this checkout's package."""
    code = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{code}"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def text_files() -> Iterator[tuple[str, str]]:
    """(name, text) of every file that belongs to the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout: cannot tell which files belong to it")
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file() and b"\0" not in (data := path.read_bytes()):
            yield name, data.decode()


# --- public names


def test_public_names_are_frozen():
    assert set(wb.__all__) == PUBLIC
    assert set(dir(wb)) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_there(name):
    assert getattr(wb, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'workbench' has no attribute 'comparre'"):
        _ = wb.comparre


@pytest.mark.parametrize(
    "first", ["import workbench.compare, workbench.profile", "import workbench as wb; wb.compare"]
)
def test_functions_are_not_hidden_by_the_modules_of_their_names(first):
    assert (
        python(f"{first}\nimport workbench as wb\nprint(callable(wb.compare), callable(wb.profile))")
        == "True True\n"
    )


# --- imports


def imported(path: Path) -> Iterator[tuple[str, bool, int]]:
    """(top-level module of workbench, whether inside a function, line) for each import in a file."""
    tree = ast.parse(path.read_text())
    inside = {
        child
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.walk(function)
    }
    package = ("workbench", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple((node.module or "").split(".")) if node.module else ()
            targets = [(*base, alias.name) for alias in node.names]
        else:
            continue
        for target in targets:
            if (
                target[0] == "workbench"
                and len(target) > 1
                and (PACKAGE / target[1]).with_suffix("").name in NAMES
            ):
                yield target[1], node in inside, node.lineno


NAMES = {path.stem for path in PACKAGE.glob("*.py")} | {
    path.name for path in PACKAGE.iterdir() if path.is_dir()
}


def top(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_module_has_its_place_in_the_order():
    assert {top(path) for path in modules()} - {"__init__", "__main__"} <= set(LEVEL)


def test_imports_point_one_way():
    wrong = []
    for path in modules():
        source = top(path)
        if source in ("__init__", "__main__"):
            continue
        for target, in_function, line in imported(path):
            allowed = (source, target) in UPWARD and in_function
            if target != source and LEVEL[target] > LEVEL[source] and not allowed:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_neighbours_do_not_import_each_other_in_a_circle():
    edges = {(top(path), target) for path in modules() for target, _, _ in imported(path)}
    circles = {(a, b) for a, b in edges if a != b and (b, a) in edges and LEVEL.get(a) == LEVEL.get(b)}
    assert not circles


def test_importing_the_package_loads_nothing_heavy():
    loaded = python("import sys, workbench; dir(workbench); print(*sys.modules)").split()
    assert not {name.split(".")[0] for name in loaded} & {*HEAVY, "numpy"}


def test_every_module_can_be_imported_without_any_runtime():
    blocked = f"BLOCKED = {RUNTIMES!r}{BLOCKER}"
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in modules()
        if path.name != "__main__.py"
    ]
    python(f"{blocked}\nimport importlib\nfor name in {names}: importlib.import_module(name)")


def test_import_costs_less_than_half_a_second_of_cpu():
    def cpu() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        python("import workbench")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)

    assert min(cpu() for _ in range(3)) < 0.5


# --- what is packaged


def test_wheel_and_sdist_hold_what_they_should(tmp_path):
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr

    wheel = zipfile.ZipFile(next(tmp_path.glob("*.whl")))
    names = wheel.namelist()
    assert {path.relative_to(ROOT).as_posix() for path in modules()} <= set(names)
    assert "workbench/py.typed" in names
    assert not [name for name in names if not name.startswith(("workbench/", "trt_workbench-"))]
    metadata = wheel.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert f"\nVersion: {wb.__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    scripts = wheel.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert "workbench = workbench.cli:main" in scripts

    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        inside = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "Makefile", "tests/test_house.py", "workbench/__init__.py"} <= inside


# --- what files may say


def test_no_file_names_a_registry_host_or_a_path_of_one_machine():
    hosts = [
        "pypi" + r"\.org",
        "pythonhosted" + r"\.org",
        r"download\." + "pytorch",
        "npmjs" + r"\.",
        "debian" + r"\.org",
    ]
    homes = ["/wo" + r"rk/\w", "/ho" + r"me/\w", "/ro" + r"ot/\w", "/Us" + r"ers/\w", r"[A-Z]:\\" + "Users"]
    forbidden = re.compile("|".join([*hosts, *(rf"(?<![\w.]){home}" for home in homes)]))
    found = [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in text_files()
        for number, line in enumerate(text.splitlines(), 1)
        if name != "LICENSE" and forbidden.search(line)
    ]
    assert not found, "\n".join(found)


def test_files_are_short_and_say_what_they_are_for():
    long = {
        path.relative_to(ROOT).as_posix(): n
        for path in modules()
        if (n := len(path.read_text().splitlines())) > 400
    }
    assert not long
    silent = [
        path.relative_to(ROOT).as_posix()
        for path in modules()
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_links_in_the_texts_lead_somewhere():
    for text in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / text).read_text()):
            assert target.startswith("https://") or (ROOT / target).exists(), f"{text} links to {target}"


def test_commands_in_the_readme_exist():
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:^|`)make (\w+)", readme, re.M)):
        assert re.search(rf"^{target}:", makefile, re.M), f"make {target}"
    commands = python("import sys; from workbench.cli import main; sys.argv[1:] = ['--help']; main()")
    for command in set(re.findall(r"^workbench (\w+)", readme, re.M)):
        assert command in commands, f"workbench {command}"
