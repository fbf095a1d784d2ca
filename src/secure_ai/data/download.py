"""One strict HTTPS download: no other scheme, no redirect to another host, a size cap and a deadline."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from typing import IO
from urllib.parse import urlsplit

from secure_ai.core.errors import DataUnavailableError

STEP_BYTES = 64 * 1024
HTTPS = ("https",)


class _SameHostOnly(urllib.request.HTTPRedirectHandler):
    max_redirections = 3

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Follow within one scheme, host and port; refuse everything else."""
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if (old.scheme, old.netloc) != (new.scheme, new.netloc):
            raise DataUnavailableError(
                "the server redirects elsewhere",
                where=old.netloc,
                expected=f"{old.scheme}://{old.netloc}",
                got=f"{new.scheme}://{new.netloc}",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Only what HTTP needs: no file, ftp or data URLs."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _SameHostOnly(),
    ):
        opener.add_handler(handler)
    return opener


def download(url: str, *, max_bytes: int, timeout_s: float = 60.0, schemes: tuple[str, ...] = HTTPS) -> bytes:
    """The body of `url`.

    Args:
        max_bytes: a longer body is refused, by its announced length or while reading.
        timeout_s: for the whole transfer.
        schemes: allowed ones; anything but HTTPS is for tests against a loopback server.

    Raises:
        DataUnavailableError: whatever went wrong, with the reason.
    """
    parts = urlsplit(url)
    if parts.scheme not in schemes:
        raise DataUnavailableError("the scheme is not allowed", where=url, expected=schemes, got=parts.scheme)
    deadline = time.monotonic() + timeout_s
    request = urllib.request.Request(url, headers={"User-Agent": "secure-ai"})  # noqa: S310 - the scheme is checked above
    try:
        with _opener().open(request, timeout=min(timeout_s, 20.0)) as response:
            return _read(response, parts.netloc, max_bytes, deadline)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise DataUnavailableError("the download failed", where=parts.netloc, got=error) from None


def _read(response: http.client.HTTPResponse, where: str, max_bytes: int, deadline: float) -> bytes:
    announced = response.headers.get("Content-Length")
    if announced is not None and not (announced.isascii() and announced.isdigit()):
        raise DataUnavailableError("the server announces no usable length", where=where, got=announced)
    if announced is not None and int(announced) > max_bytes:
        raise DataUnavailableError("the body is too large", where=where, expected=f"<= {max_bytes}", got=announced)
    body = bytearray()
    while chunk := response.read1(STEP_BYTES):  # `read` would wait for all of it, however slowly it drips
        body += chunk
        if len(body) > max_bytes:
            raise DataUnavailableError("the body is too large", where=where, expected=f"<= {max_bytes} bytes")
        if time.monotonic() > deadline:
            raise DataUnavailableError("the download is too slow", where=where, got=f"{len(body)} bytes so far")
    if announced is not None and len(body) != int(announced):
        raise DataUnavailableError("the body was cut off", where=where, expected=announced, got=len(body))
    return bytes(body)
