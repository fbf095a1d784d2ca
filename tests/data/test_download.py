"""The strict download against a loopback server: the body comes back, everything irregular is refused."""

import http.server
import threading
import time
from collections.abc import Iterator

import pytest

from secure_ai.core.errors import DataUnavailableError
from secure_ai.data.download import download

BODY = bytes(range(256)) * 300


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path."""

    def do_GET(self) -> None:
        host = self.headers["Host"]
        redirects = {
            "/same-host": f"http://{host}/body",
            "/relative": "/body",
            "/other-port": "http://127.0.0.1:9/body",
            "/other-name": f"http://localhost:{host.partition(':')[2]}/body",
            "/other-scheme": f"https://{host}/body",
            "/file": "file:///etc/hostname",
            "/loop": "/loop",
        }
        if self.path in redirects:
            self.send_response(302)
            self.send_header("Location", redirects[self.path])
            self.end_headers()
        elif self.path == "/missing":
            self.send_error(404)
        else:
            self.body()

    def body(self) -> None:
        self.send_response(200)
        length = {"/short": len(BODY) + 1, "/huge": 10**12}.get(self.path, len(BODY))
        if self.path == "/bad-length":
            self.send_header("Content-Length", "many")
        elif self.path not in ("/endless", "/drip"):
            self.send_header("Content-Length", str(length))
        self.end_headers()
        try:
            for _ in range({"/endless": 10_000, "/drip": 100}.get(self.path, 1)):
                self.wfile.write(b"." if self.path == "/drip" else BODY)
                time.sleep(0.05 if self.path == "/drip" else 0)
        except OSError:
            return  # the client has hung up, as it should

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def get(url: str, max_bytes: int = 10**6, timeout_s: float = 10) -> bytes:
    return download(url, max_bytes=max_bytes, timeout_s=timeout_s, schemes=("http",))


@pytest.mark.parametrize("path", ["/body", "/same-host", "/relative"])
def test_the_body_comes_back(server: str, path: str) -> None:
    assert get(server + path) == BODY


def test_the_limit_itself_is_allowed(server: str) -> None:
    assert get(f"{server}/body", max_bytes=len(BODY)) == BODY


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/other-port", "redirects elsewhere"),
        ("/other-name", "redirects elsewhere"),
        ("/other-scheme", "redirects elsewhere"),
        ("/file", "not allowed"),
        ("/loop", "download failed"),
        ("/missing", "404"),
        ("/short", "cut off"),
        ("/huge", "too large"),
        ("/endless", "too large"),
    ],
)
def test_irregular_answers_are_refused(server: str, path: str, message: str) -> None:
    with pytest.raises(DataUnavailableError, match=message):
        get(server + path)


def test_a_dripping_body_stops_at_the_deadline(server: str) -> None:
    start = time.monotonic()
    with pytest.raises(DataUnavailableError, match="too slow"):
        get(f"{server}/drip", max_bytes=10**9, timeout_s=0.3)
    assert time.monotonic() - start < 3


def test_a_length_that_is_no_number(server: str) -> None:
    with pytest.raises(DataUnavailableError) as refused:
        get(f"{server}/bad-length")
    assert refused.value.got == "many"


def test_a_body_above_the_limit(server: str) -> None:
    with pytest.raises(DataUnavailableError, match="too large"):
        get(f"{server}/body", max_bytes=len(BODY) - 1)


@pytest.mark.parametrize("url", ["http://127.0.0.1/x", "file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x", "x"])
def test_only_https_unless_told_otherwise(url: str) -> None:
    with pytest.raises(DataUnavailableError, match="scheme"):
        download(url, max_bytes=10)


def test_nobody_listens() -> None:
    with pytest.raises(DataUnavailableError, match="download failed"):
        get("http://127.0.0.1:9/x")
