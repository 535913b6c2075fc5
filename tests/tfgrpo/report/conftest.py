"""One browser for all pages, and a server that would notice a page that calls home."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from tests.tfgrpo.report.browser import Browser, browser_path


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path = browser_path()
    if path is None:
        pytest.skip("no chromium or chrome is on PATH; the pages are tested as files alone")
    with Browser(path, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def calm(browser: Browser) -> Iterator[None]:
    """No page may ask for anything but itself, nor complain."""
    browser.resize(1280, 900)
    browser.requests.clear()
    browser.messages.clear()
    yield
    browser.settle()
    assert [r for r in browser.requests if not r.startswith(("file:", "about:", "data:"))] == []
    assert browser.messages == []


@pytest.fixture
def listener() -> Iterator[tuple[int, list[str]]]:
    """A server on this machine that notes what it is asked for."""
    asked: list[str] = []

    class Noting(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Noting)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1], asked
    server.shutdown()
    thread.join()
    server.server_close()
