"""A registry with one image, which sends layers slowly, and can break off. It supports no more than `docker pull` asks for.

Source: the OCI distribution specification. The engine speaks plain HTTP to 127.0.0.1.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import secrets
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SCHEMA = "application/vnd.docker.distribution.manifest.v2+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
CONFIG = "application/vnd.docker.container.image.v1+json"
PIECES = 16


class ImageRegistry:
    """Its image, and how it sends: `piece` is waited for before each sixteenth of a layer; `is_broken` ends each half-way."""

    def __init__(self, layers: list[bytes], environment: dict[str, str]) -> None:
        self.may_send = threading.Semaphore(0)
        self.is_slow = True
        self.is_broken = False
        self.requests: list[str] = []
        packed = [gzip.compress(layer) for layer in layers]
        names = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": [f"{key}={value}" for key, value in environment.items()]},
            "rootfs": {"type": "layers", "diff_ids": names},
        }
        described = json.dumps(config).encode()
        self.blobs = {_digest(blob): blob for blob in (*packed, described)}
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": SCHEMA,
                "config": _descriptor(CONFIG, described),
                "layers": [_descriptor(LAYER, layer) for layer in packed],
            }
        ).encode()


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _descriptor(kind: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "size": len(blob), "digest": _digest(blob)}


def layer_of_noise(name: str, size_bytes: int) -> bytes:
    """One file that cannot be compressed."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = size_bytes
        tar.addfile(entry, io.BytesIO(secrets.token_bytes(size_bytes)))
    return content.getvalue()


@contextmanager
def serving(registry: ImageRegistry) -> Iterator[str]:
    """Its address, as the first part of an image's name."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            *_, kind, name = ["", *self.path.rstrip("/").split("/")]
            registry.requests.append(kind)
            if kind == "manifests":
                self._answer(registry.manifest, SCHEMA)
            elif kind == "blobs":
                self._answer(registry.blobs[name], "application/octet-stream")
            else:
                self._answer(b"{}", "application/json")

        do_HEAD = do_GET

        def _answer(self, content: bytes, kind: str) -> None:
            self.send_response(200)
            for key, value in (
                ("Content-Type", kind),
                ("Content-Length", str(len(content))),
                ("Docker-Content-Digest", _digest(content)),
            ):
                self.send_header(key, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            size = max(1, -(-len(content) // PIECES))
            for start in range(0, len(content), size):
                if registry.is_slow and len(content) > 1 << 16:
                    registry.may_send.acquire()
                if registry.is_broken and 2 * start > len(content) > 1 << 16:
                    self.close_connection = True
                    return
                try:
                    self.wfile.write(content[start : start + size])
                except ConnectionError:  # the engine wants no more of it
                    self.close_connection = True
                    return

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        registry.is_slow = False
        registry.may_send.release(4 * PIECES * len(registry.blobs))
        server.shutdown()
        thread.join()
        server.server_close()
