"""m.netron(): the real Netron on the current state of a model, in a real browser."""

from __future__ import annotations

import importlib.util
import os
import socket
import urllib.request

import psutil
import pytest
from edits.small import proto

import workbench as wb
from workbench.widgets import netron as module

if importlib.util.find_spec("netron") is None and os.environ.get("WORKBENCH_REQUIRE_BROWSER") != "1":
    pytest.skip("no Netron: pip install netron", allow_module_level=True)


@pytest.fixture
def model():
    return wb.load(proto())


def test_it_shows_the_current_state(page, model):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    with model.rename_node("leaky", "leaky_as_edited").netron() as shown:
        assert shown.url.startswith("http://127.0.0.1:") and shown.running
        assert f'src="{shown.url}"' in shown._repr_html_()
        # as in a notebook: a frame in a page of another host, where cookies are not to be had
        page.set_content(shown._repr_html_())
        frame = page.frame_locator("iframe")
        frame.get_by_text("LeakyRelu").first.wait_for(timeout=60_000)
        frame.get_by_text("LeakyRelu").first.click()
        frame.locator("#sidebar-content").get_by_text("leaky_as_edited").wait_for(timeout=60_000)
        assert frame.get_by_text("This app uses cookies").count() == 0
    assert [url for url in asked if not url.startswith((shown.url, "data:", "blob:"))] == []
    assert repr(shown) == "<Netron of 'small' stopped>" and "stopped" in shown._repr_html_()


def test_two_at_once_show_two_models(model):
    other = model.delete("leaky")
    with model.netron() as one, other.netron() as two:
        sizes = [len(urllib.request.urlopen(f"{shown.url}/data/small.onnx").read()) for shown in (one, two)]
    assert sizes[0] != sizes[1]


def test_stopping_ends_the_process_and_its_files(model):
    before = set(psutil.Process().children())
    shown = model.netron()
    (process,) = set(psutil.Process().children()) - before
    shown.stop()
    shown.stop()
    assert not process.is_running() and not shown.running
    with pytest.raises(OSError):
        urllib.request.urlopen(shown.url)


def test_a_port_that_is_taken_is_an_error(model):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = "Netron's server ended before it served 'small'; it wrote: OSError.*in use"
        with pytest.raises(wb.errors.BackendCrashed, match=message):
            model.netron(port=port)


def test_without_netron(model, monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    message = "cannot open 'small' in Netron: the package netron is not installed; pip install netron"
    with pytest.raises(wb.errors.BackendNotInstalled, match=message):
        model.netron()


def test_a_name_cannot_reach_into_the_page(page):
    odd = proto()
    odd.graph.name = '"><script>alert(1)</script>'
    with wb.load(odd).netron() as shown:
        text = urllib.request.urlopen(shown.url).read().decode()
        assert "alert(1)" not in text
        assert "<script>alert" not in shown._repr_html_()
