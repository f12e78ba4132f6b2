"""One browser for all tests here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ui_browser


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    with ui_browser.browser() as running:
        yield running


@pytest.fixture
def page(chromium) -> Iterator:
    """A page; an error in it fails the test."""
    context = chromium.new_context(viewport={"width": 1200, "height": 800})
    made = context.new_page()
    errors: list[str] = []
    made.on("pageerror", lambda error: errors.append(str(error)))
    made.on("dialog", lambda dialog: errors.append(f"dialog: {dialog.message}"))
    yield made
    context.close()
    assert not errors, errors
