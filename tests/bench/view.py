"""The graph view's bench: `python -m tests.bench.view [--nodes 1000 10000 50000] [--netron 10000] [--json FILE]`.

In headless Chromium, on the same files: from running the cell (in JupyterLab) to the drawn graph, frame times while
panning and zooming, memory of the browser; and Netron, from navigation to the drawn graph. Ratios are printed, and
crossings and widths of the layout beside dagre's. `python -m tests.bench` runs it too.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import graphs  # noqa: E402
import ui_browser  # noqa: E402

DRAWN = {1000: 0.4, 10000: 0.6, 50000: 2.0}
FRAME = {10000: 20.0, 50000: 33.4}
FASTER, SMALLER = 50, 5
"""Targets: seconds to the drawn graph, p95 of a frame in ms, and times better than Netron at 10,000 nodes."""
# a large page needs a large heap, and no small /dev/shm
ROOM = ("--disable-dev-shm-usage", "--js-flags=--max-old-space-size=12000")
WIDGETS = ROOT / "extensions" / "widgets"
VIEW = "document.querySelector('.wbg').view"
FRAMES = """async ([where, seconds]) => {
  const v = document.querySelector('.wbg').view, frames = [], {x, y, k} = v.motion.whole();
  const near = {x: v.scene.width / 2, y: v.scene.height / 2, k: 0.8}, middle = {...near, k: 0.35};
  const camera = {all: {x, y, k}, near, middle}[where], start = performance.now();
  let last = await new Promise(requestAnimationFrame);
  for (let i = 0; performance.now() - start < seconds * 1000; i++) {
    const t = Math.sin(i / 20);
    const x = camera.x + 100 * t / camera.k, y = camera.y + 300 * t / camera.k;
    v.motion.aim({x, y, k: camera.k * (1 + 0.25 * t)}, true);
    const now = await new Promise(requestAnimationFrame); // when the frame began
    frames.push(now - last);
    last = now;
  }
  return frames.slice(5);
}"""


class Peak:
    """Highest memory (proportional share, bytes) of the renderers below this process."""

    def __init__(self) -> None:
        self.bytes, self._on = 0, True
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while self._on:
            self.bytes = max(self.bytes, self.now())
            time.sleep(0.2)

    @staticmethod
    def now() -> int:
        most = 0
        for child in psutil.Process().children(recursive=True):
            try:
                if "--type=renderer" in child.cmdline():
                    most = max(most, child.memory_full_info().pss)
            except psutil.Error:
                continue
        return most

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bytes = max(self.bytes, self.now())
        self._on = False
        self._thread.join()


def frames(page, where: str) -> dict[str, float]:
    """Milliseconds per frame while the view moves."""
    found = page.evaluate(FRAMES, [where, 3])
    return {"p50": statistics.median(found), "p95": statistics.quantiles(found, n=20)[-1]}


def ours(model: Path, folder: Path) -> dict:
    """The view in a cell of JupyterLab; the model is loaded by an earlier cell."""
    ui_browser.write_notebook(
        folder / "bench.ipynb",
        f"import workbench as wb\nimport workbench.widgets\nm = wb.load({str(model)!r})\nprint('loaded')",
        "m.view()",
    )
    with ui_browser.lab(folder) as address, ui_browser.browser() as browser:
        page = loaded(browser, address)
        drawn = shown(page)
        page.close()
        page = loaded(browser, address)  # once more, because to watch the memory holds a process up
        base = Peak.now()
        with Peak() as peak:
            shown(page)
            page.wait_for_function(f"() => !!{VIEW}.data.macs", timeout=120_000)
            moving = {where: frames(page, where) for where in ("near", "middle", "all")}
        return {
            "drawn_s": drawn / 1e3,
            "frames_ms": moving,
            "renderer_bytes": peak.bytes,
            "empty_lab_bytes": base,
        }


def loaded(browser, address: str):
    """The notebook in a new page, its first cell run."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    ui_browser.open_notebook(page, address, "bench.ipynb")
    ui_browser.run_cell(page, 0)
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.content.widgets[0].outputArea.node.innerText"
        ".includes('loaded')",
        timeout=60_000,
    )
    return page


def shown(page) -> float:
    """Milliseconds from running the second cell to the drawn graph."""
    ui_browser.run_cell(page, 1)
    page.wait_for_selector(".wbg[data-state=ready]", timeout=120_000)
    return page.evaluate("performance.getEntriesByName('workbench-drawn')[0].startTime - window.started")


@contextmanager
def netron_server(model: Path):
    """Netron's own server."""
    port = ui_browser.free_port()
    start = f"netron.start({str(model)!r}, address=('127.0.0.1', {port}), browse=False)"
    code = f"import netron, time; {start}; time.sleep(1e6)"
    quiet = subprocess.DEVNULL
    server = subprocess.Popen([sys.executable, "-c", code], stdout=quiet, stderr=quiet)
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/").close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.kill()
        server.wait()


def netron(model: Path) -> dict:
    """Netron on the same file, from navigation to the graph."""
    with netron_server(model) as address, ui_browser.browser(*ROOM) as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.context.add_cookies([{"name": "consent", "value": str(int(time.time())), "url": address}])
        crashed = False
        with Peak() as peak:
            start = time.monotonic()
            try:
                page.goto(address)
                page.wait_for_selector("#canvas .node, #target .node", state="attached", timeout=600_000)
                # nodes are placed when the layout is done
                page.wait_for_selector("body.default", state="attached", timeout=600_000)
            except browser_error() as error:
                if "crashed" not in str(error):
                    raise
                crashed = True
            drawn = time.monotonic() - start
        return {"drawn_s": drawn, "renderer_bytes": peak.bytes, "crashed": crashed}


def browser_error() -> type[Exception]:
    """What Playwright raises."""
    from playwright.sync_api import Error

    return Error


def versus(view: dict, peer: dict) -> str:
    """Netron's figures, and the ratios to ours; what it used until then when its page crashed."""
    text = f" {peer['drawn_s']:>8.1f} {peer['renderer_bytes'] / 1e6:>6.0f}"
    if peer["crashed"]:
        return f"{text}  Netron's page crashed by then"
    faster = peer["drawn_s"] / view["drawn_s"]
    return f"{text}  {faster:.0f}x faster, {peer['renderer_bytes'] / view['renderer_bytes']:.1f}x smaller"


def quality() -> list[dict]:
    """Crossings and widths of the layout and of dagre on the graphs of the front end's tests; none without node."""
    vitest = WIDGETS / "node_modules" / ".bin" / "vitest"
    if not vitest.exists() or not shutil.which("node"):
        return []
    done = subprocess.run(
        [str(vitest), "run", "-t", "against dagre"],
        cwd=WIDGETS,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    rows = re.findall(r"(\w[\w ]*): crossings (\d+) / (\d+), width (\d+) / (\d+)", done.stdout)
    names = ("crossings", "dagre_crossings", "width", "dagre_width")
    return [{"graph": row[0], **dict(zip(names, map(int, row[1:]), strict=True))} for row in rows]


def quality_text(rows: list[dict]) -> str:
    lines = [f"{'layout of':24} {'crossings':>10} {'dagre':>6} {'width':>8} {'dagre':>6}"]
    lines += [
        f"{r['graph']:24} {r['crossings']:>10} {r['dagre_crossings']:>6} {r['width']:>8} {r['dagre_width']:>6}"
        for r in rows
    ]
    return "\n".join(lines if rows else ["layout: not compared with dagre, `make widgets` installs it"])


def verdicts(results: dict, rows: list[dict]) -> list[str]:
    """Each target with what was measured."""
    found = []

    def check(text: str, value: float, limit: float, higher: bool = False) -> None:
        met = value >= limit if higher else value <= limit
        found.append(f"  {'met ' if met else 'MISSED':6} {text:52} {value:8.2f}  (target {limit:g})")

    for nodes, row in results.items():
        view, peer = row["view"], row.get("netron")
        if nodes in DRAWN:
            check(f"{nodes} nodes: seconds from running the cell to drawn", view["drawn_s"], DRAWN[nodes])
        if nodes in FRAME:
            where = ["all"] if nodes > 10000 else ["near", "middle", "all"]
            check(
                f"{nodes} nodes: p95 of a frame, ms",
                max(view["frames_ms"][w]["p95"] for w in where),
                FRAME[nodes],
            )
        if peer and nodes == 10000:
            ran = ", until its page crashed" if peer["crashed"] else ""
            check(
                f"{nodes} nodes: times faster than Netron{ran}",
                peer["drawn_s"] / view["drawn_s"],
                FASTER,
                True,
            )
            smaller = peer["renderer_bytes"] / view["renderer_bytes"]
            check(f"{nodes} nodes: times less memory than Netron{ran}", smaller, SMALLER, True)
    for row in rows:
        check(
            f"{row['graph']}: crossings, times dagre's",
            row["crossings"] / max(1, row["dagre_crossings"]),
            1.3,
        )
        check(f"{row['graph']}: width, times dagre's", row["width"] / row["dagre_width"], 1.3)
    return found


def run(sizes: list[int], peers: list[int], kind: str = "masked") -> dict:
    """Measure and print; the figures."""
    if peers and importlib.util.find_spec("netron") is None:
        raise SystemExit("netron is missing: pip install netron, or give --netron without sizes")
    results: dict = {}
    print(
        f"{'nodes':>6}  {'drawn s':>8} {'renderer MB':>11}  p95 frame ms near/middle/all   "
        f"{'Netron s':>8} {'MB':>6}  ratios"
    )
    for nodes in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            model = folder / f"{kind}{nodes}.onnx"
            model.write_bytes(graphs.transformer(nodes, kind).SerializeToString())
            row = results[nodes] = {"view": ours(model, folder)}
            view = row["view"]
            p95 = "/".join(f"{view['frames_ms'][w]['p95']:.0f}" for w in ("near", "middle", "all"))
            line = f"{nodes:>6}  {view['drawn_s']:>8.2f} {view['renderer_bytes'] / 1e6:>11.0f}  {p95:<29}"
            print(line, end="", flush=True)
            if nodes in peers:
                row["netron"] = peer = netron(model)
                print(versus(view, peer), end="")
            print(flush=True)
    rows = quality()
    print("\n" + quality_text(rows) + "\n\nTargets")
    print("\n".join(verdicts(results, rows)))
    return {"view": results, "layout": rows}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.view", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="*", default=[1000, 5000, 10000, 50000])
    parser.add_argument(
        "--netron", type=int, nargs="*", default=[1000, 5000, 10000], help="sizes given to Netron too"
    )
    parser.add_argument("--kind", choices=["masked", "moe", "plain"], default="masked")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = run(options.nodes, options.netron, options.kind)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
