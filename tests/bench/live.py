"""How long an edit takes in the view: `python -m tests.bench.live [--nodes 10000] [--rounds 8] [--json FILE]`.

In headless Chromium and a real JupyterLab: from the key (or the change of a field) until the changed graph is drawn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import graphs  # noqa: E402
import ui_browser  # noqa: E402

ACT = """async ([what, node]) => {
  const v = document.querySelector('.wbg').view, note = v.root.querySelector('.wbg-note');
  const at = v.data.head.nodes.indexOf(node); // -1 when it is there again after the undo only
  if (at >= 0) v.select([at], {quiet: true});
  v.motion.show(v.selection);
  await new Promise((done) => setTimeout(done, 400));
  const {stamp} = v.data.head, {draw} = v.renderer;
  const drawn = new Promise((done, failed) => {
    const late = setTimeout(() => failed(new Error(`${what} of ${node}: ${note.textContent}`)), 20000);
    v.renderer.draw = () => {
      draw.call(v.renderer);
      if (v.data.head.stamp === stamp) return;
      v.canvas.getContext('2d').getImageData(0, 0, 1, 1); // when its pixels are there
      done(performance.now());
      clearTimeout(late);
      delete v.renderer.draw;
    };
  });
  const started = performance.now();
  const press = (options) => v.canvas.dispatchEvent(new KeyboardEvent('keydown', {bubbles: true, ...options}));
  const tensor = v.data.head.tensors.indexOf(node + '_out');
  if (what === 'delete') press({key: 'Delete'});
  else if (what === 'undo') press({key: 'z', ctrlKey: true});
  else if (what === 'attribute') v.edits.act({edit: 'set_attribute', node, name: 'axis', value_text: '3'});
  else if (what === 'rename') v.edits.act({edit: 'rename_node', node, name: node + 'ed'});
  else v.edits.act({edit: 'insert_identity', tensor});
  return (await drawn) - started;
}"""
KINDS = ("attribute", "rename", "delete", "insert")


def measure(nodes: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each kind of edit, the first of the session apart."""
    found: dict[str, list[float]] = {"first": []}
    with tempfile.TemporaryDirectory() as name, ui_browser.browser() as browser:
        folder = Path(name)
        (folder / "m.onnx").write_bytes(graphs.transformer(nodes).SerializeToString())
        code = "import workbench as wb\nm = wb.load('m.onnx')\nm.view()"
        ui_browser.write_notebook(folder / "n.ipynb", code)
        with ui_browser.lab(folder) as address:
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            ui_browser.open_notebook(page, address, "n.ipynb")
            ui_browser.run_cell(page, 0)
            page.wait_for_selector(".wbg[data-state=ready]", timeout=120_000)
            page.wait_for_function("() => !!document.querySelector('.wbg').view.data.macs", timeout=120_000)
            names = page.evaluate("() => document.querySelector('.wbg').view.data.head.nodes")
            layers = sum(name.endswith("/attn/Softmax") for name in names)
            for turn in range(rounds):
                node = f"/layers.{(turn * 31) % (layers - 2) + 1}/attn/Softmax"
                for kind in KINDS:
                    for what in (kind, "undo"):
                        ms = page.evaluate(ACT, [what, node])
                        found.setdefault(what if found["first"] else "first", []).append(ms)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.live", description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.nodes, options.rounds)
    print(f"an edit of a graph of {options.nodes} nodes, from the key to the drawn graph:")
    for what, ms in found.items():
        print(f"{what:>10}  median {statistics.median(ms):6.0f} ms, worst of {len(ms)} {max(ms):6.0f} ms")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
