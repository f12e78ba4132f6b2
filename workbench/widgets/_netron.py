"""Runs Netron's own server for one file, in a process of its own: ``python -P _netron.py FILE PORT``.

A process, because Netron's servers of one process all serve the file that was opened last. It writes its port to
standard output and ends when its standard input closes, that is with the notebook's kernel at the latest.

What its page is changed in, so that it works offline and inside a notebook: it does not ask where the reader lives and
whether errors may be reported (nothing is), and does not ask for a newer version after half a year.
"""

from __future__ import annotations

import datetime
import re
import sys

import netron.server as server

QUIET = "/workbench.js"
COOKIE = b'Object.defineProperty(document, "cookie", { get: () => "consent=1", set: () => {} });'


class Handler(server._HTTPRequestHandler):
    """Netron's, whose page is told that it is not packaged (no telemetry), of today, and that consent was asked."""

    def do_GET(self) -> None:
        if self.path == QUIET:
            self._write(200, "text/javascript", COOKIE)
        else:
            super().do_GET()

    def _write(self, status_code: int, content_type: str | None, content: bytes | None) -> None:
        if content and content_type == "text/html":
            page = content.decode("utf-8")
            page = re.sub(r'(<meta name="version" content=)"[^"]*"', r'\1"0.0.0"', page)
            page = re.sub(
                r'(<meta name="date" content=)"[^"]*"', rf'\1"{datetime.date.today()} 00:00:00"', page
            )
            content = page.replace("<head>", f'<head><script src="{QUIET}"></script>', 1).encode()
        super()._write(status_code, content_type, content)


def main(file: str, port: str) -> None:
    server._HTTPRequestHandler = Handler
    _, found = server.serve(file, None, address=("127.0.0.1", int(port)), browse=False)
    print(found, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
