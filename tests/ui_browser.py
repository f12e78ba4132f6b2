"""A real browser (Debian's Chromium, driven by Playwright) and a real JupyterLab, for tests/ui and the bench.

Where either is missing the tests are skipped; with ``WORKBENCH_REQUIRE_BROWSER=1`` they fail instead.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-precise-memory-info",
]
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def missing(message: str) -> None:
    """Skip the running test, or fail it where a browser is required."""
    if os.environ.get("WORKBENCH_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{message} (WORKBENCH_REQUIRE_BROWSER=1 asks for a browser)", pytrace=False)
    pytest.skip(message)


def program() -> str:
    """Path of the browser."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        missing("no browser: apt-get install chromium")
    return found or ""


@contextmanager
def browser(*flags: str) -> Iterator:
    """A running browser, with further flags."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("no Playwright: pip install playwright")
    path = program()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=[*FLAGS, *flags])
        try:
            yield running
        finally:
            running.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def lab(folder: Path, theme: str = "JupyterLab Light") -> Iterator[str]:
    """A running JupyterLab with `folder` as its root; gives its address."""
    port = free_port()
    settings = folder / ".settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True, exist_ok=True)
    news = {"fetchNews": "false", "checkForUpdates": False}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(news))
    (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
    tracker = folder / ".settings" / "@jupyterlab" / "notebook-extension"
    tracker.mkdir(parents=True, exist_ok=True)  # cells out of sight stay in the page
    (tracker / "tracker.jupyterlab-settings").write_text(json.dumps({"windowingMode": "none"}))
    environment = {
        **os.environ,
        "JUPYTERLAB_SETTINGS_DIR": str(folder / ".settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / ".workspaces"),
        "JUPYTER_CONFIG_DIR": str(folder / ".config"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }
    options = {
        "port": port,
        "ip": "127.0.0.1",
        "IdentityProvider.token": "",
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": folder,
        "LabApp.expose_app_in_browser": True,
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--{name}={value}" for name, value in options.items()]
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(server, address, folder / "lab.log")
        yield address
    finally:
        server.terminate()  # which ends its kernels first
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait(server: subprocess.Popen, address: str, log: Path) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{address}/api", timeout=2).close()
            return
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.25)
    raise RuntimeError("JupyterLab does not start:\n" + log.read_text()[-3000:])


def write_notebook(path: Path, *cells: str) -> None:
    """A notebook of code cells."""
    empty = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    rows = [{**empty, "id": f"c{index}", "source": cell} for index, cell in enumerate(cells)]
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    path.write_text(json.dumps({"cells": rows, "metadata": spec, "nbformat": 4, "nbformat_minor": 5}))


CONNECTED = """() => {
  const panel = window.jupyterapp && window.jupyterapp.shell.currentWidget;
  const context = panel && panel.sessionContext;
  return !!(context && context.isReady && context.session && context.session.kernel
    && context.session.kernel.connectionStatus === 'connected');
}"""


def open_notebook(page, address: str, name: str) -> None:
    """Open a notebook and wait until its kernel is connected (a cell that is run earlier is dropped)."""
    page.goto(f"{address}/lab/tree/{name}")
    page.wait_for_function(CONNECTED, timeout=90_000)


def run_cell(page, index: int) -> None:
    """Run one cell; returns at once."""
    page.evaluate(
        """(index) => {
          const app = window.jupyterapp, panel = app.shell.currentWidget;
          panel.content.deselectAll();
          panel.content.activeCellIndex = index;
          window.started = performance.now();
          app.commands.execute('notebook:run-cell');
        }""",
        index,
    )


def output_of(page, index: int) -> str:
    """Text that a cell has written so far."""
    return page.evaluate(
        """(index) => {
          const cell = window.jupyterapp.shell.currentWidget.content.widgets[index];
          return cell.outputArea ? cell.outputArea.node.innerText : '';
        }""",
        index,
    )
