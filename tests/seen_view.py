"""A GraphView without a browser: what it sends is kept, what the browser would ask is asked by a test."""

from __future__ import annotations

import time

from workbench.widgets import graph


class Seen(graph.GraphView):
    """A view that keeps what it sends."""

    def __init__(self, *args, **kwargs):
        self.sent = []
        super().__init__(*args, **kwargs)

    def send(self, content, buffers=None):
        self.sent.append((content, buffers))

    def ask(self, method, **params):
        self._receive(self, {"rpc": "1", "method": method, "params": params}, [])
        deadline = time.monotonic() + 20
        while not (found := [row for row in self.sent if "rpc" in row[0]]) and time.monotonic() < deadline:
            time.sleep(0.005)
        self.sent.remove(found[0])
        return found[0]
