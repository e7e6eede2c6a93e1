"""The local server: types, headers, folders, and what it refuses."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from webdnn_onnx.engines.server import Server
from webdnn_onnx.errors import BackendError


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "a.wasm").write_bytes(b"\0asm")
    (root / "ü.js").write_text("export {};")
    (root / "index.html").write_text("<p>root")
    (tmp_path / "secret.txt").write_text("no")
    with Server({"/": root}) as running:
        yield running


def get(server: Server, path: str, method: str = "GET", body: bytes | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=5)
    connection.request(method, path, body)
    return connection.getresponse()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/a.wasm", "application/wasm"),
        ("/%C3%BC.js", "text/javascript; charset=utf-8"),
        ("/", "text/html; charset=utf-8"),
    ],
)
def test_files_have_the_type_that_browsers_demand(server: Server, path: str, kind: str) -> None:
    answer = get(server, path)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == kind


def test_every_answer_makes_the_page_cross_origin_isolated(server: Server) -> None:
    for path in ("/a.wasm", "/missing"):
        headers = get(server, path).headers
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"


@pytest.mark.parametrize(
    "path", ["/../secret.txt", "/%2e%2e/secret.txt", "/sub/../../secret.txt", "/x%00y", "//etc/passwd"]
)
def test_nothing_outside_the_folder_is_served(server: Server, path: str) -> None:
    assert get(server, path).status == 404


def test_a_link_that_leads_outside_is_not_followed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "root" / "link.txt").symlink_to(tmp_path / "secret.txt")
    assert get(server, "/link.txt").status == 404


def test_a_folder_without_a_slash_is_redirected(server: Server) -> None:
    answer = get(server, "/sub?x=1")
    assert answer.status == 301
    assert answer.headers["Location"] == "/sub/?x=1"


def test_a_folder_without_an_index_is_listed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "root" / "sub" / "<b>.txt").write_text("x")
    body = get(server, "/sub/").read().decode()
    assert "&lt;b&gt;.txt" in body
    assert "<b>" not in body


def test_head_sends_the_length_and_no_body(server: Server) -> None:
    answer = get(server, "/a.wasm", "HEAD")
    assert answer.headers["Content-Length"] == "4"
    assert answer.read() == b""


def test_routes_get_the_body_and_answer(server: Server) -> None:
    server.routes["/echo"] = lambda body: body[::-1]
    assert get(server, "/echo", "POST", b"abc").read() == b"cba"
    assert get(server, "/nothing", "POST", b"abc").status == 404


def test_the_longest_prefix_wins(server: Server, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.wasm").write_bytes(b"other")
    server.mount("/sub/", other)
    assert get(server, "/sub/a.wasm").read() == b"other"


def test_a_taken_port_is_a_backend_error(server: Server) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    with pytest.raises(BackendError, match="free port"):
        Server(port=port)
