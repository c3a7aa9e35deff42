"""The page on the server, without a browser: where it leads, who is let in, what it leaves."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3
from serving import Running

import rekindle.web
from rekindle import _errors
from rekindle.serve.access import keys as ring
from rekindle.serve.access.gate import Gate
from rekindle.web.view import View

Begin = Callable[..., Running]
pytestmark = pytest.mark.slow


@dataclass
class Reader:
    """What Gradio tells of whoever touched the page."""

    headers: Mapping[str, str] = field(default_factory=dict)
    client: Any = field(default_factory=lambda: SimpleNamespace(host="192.0.2.7"))


def get(server: Running, path: str, **headers: str) -> urllib3.BaseHTTPResponse:
    return urllib3.request(
        "GET", f"http://{server.http}{path}", headers=headers, redirect=False, timeout=60
    )


@pytest.mark.parametrize("path", ["/", "/web", "/web/"])
@pytest.mark.parametrize(("wish", "to"), [("es-MX,es;q=0.9", "es"), ("en", "en"), ("fr", "en")])
def test_the_way_to_the_page(server: Running, path: str, wish: str, to: str) -> None:
    found = get(server, path, **{"Accept-Language": wish})
    assert (found.status, found.headers["location"]) == (307, f"/web/{to}/")


def test_a_language_that_is_asked_for_wins(strict: Running) -> None:
    assert get(strict, "/", **{"Accept-Language": "en"}).headers["location"] == "/web/es/"


@pytest.mark.parametrize("code", ["en", "es"])
def test_the_page_names_no_place_elsewhere(server: Running, code: str) -> None:
    found = get(server, f"/web/{code}/")
    text = found.data.decode()
    assert f'<html\n\tlang="{code}"' in text
    # The configuration of Gradio's own scripts may name its makers; no element may load there.
    assert re.findall(r'(?:src|href|content)="https?://[^"]*"', text) == []
    policy = found.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "rekindle" not in found.headers.get("server", "")


def test_the_servers_own_routes_are_there_beside_it(server: Running) -> None:
    assert get(server, "/v2/health/ready").status == 200
    assert get(server, "/web/tlh/").status == 404


def test_nothing_reports_and_nothing_records(server: Running) -> None:
    config = get(server, "/web/en/config").json()
    assert config["analytics_enabled"] is False
    assert config["footer_links"] == []
    assert config.get("run_history") in (False, None)
    public = get(server, "/web/en/gradio_api/info").json()
    assert public["named_endpoints"] == {}


def test_files_of_the_computer_are_not_given_out(server: Running, photos: Path) -> None:
    for path in ("/etc/passwd", str(photos / "bad.png"), "../../../../etc/passwd"):
        assert get(server, f"/web/en/gradio_api/file={path}").status in (403, 404)


def upload(server: Running, data: bytes, **headers: str) -> urllib3.BaseHTTPResponse:
    fields: Any = {"files": ("photo.png", data, "image/png")}
    url = f"http://{server.http}/web/en/gradio_api/upload"
    return urllib3.request("POST", url, fields=fields, headers=headers, timeout=60)


def test_a_file_larger_than_a_request_may_be_is_refused(strict: Running) -> None:
    assert upload(strict, b"x" * 10_000).status == 200
    assert upload(strict, b"x" * 60_000).status == 413


def test_keys_guard_the_page_and_rates_leave_it_readable(
    begin: Begin, repository: Path, tmp_path: Path
) -> None:
    text, key = ring.make("ranger", ("infer",))
    ring.write(tmp_path / "keys.toml", [key])
    server = begin(repository, api_keys=tmp_path / "keys.toml", rate_limit="3/minute")
    refused = get(server, "/web/en/")
    assert refused.status == 401
    assert "Basic" in refused.headers["www-authenticate"]  # so that a browser asks
    known = {"Authorization": "Basic " + base64.b64encode(f"ranger:{text}".encode()).decode()}
    # A page is many files; three a minute would not show it.
    assert {get(server, "/web/en/", **known).status for _ in range(10)} == {200}
    uploads = [upload(server, b"a patient's photo", **known) for _ in range(4)]
    assert [answer.status for answer in uploads] == [200, 200, 200, 429]
    (name,) = uploads[0].json()
    assert Path(name).read_bytes() == b"a patient's photo"
    view = View(server.plane, Gate(server.server.settings))
    with pytest.raises(_errors.ForbiddenError, match="needs the scope admin"):
        view.permit("admin", Reader(headers={"authorization": known["Authorization"]}))
    with pytest.raises(_errors.AuthenticationError):
        view.permit("infer", Reader())
    server.stop()
    assert not Path(name).exists()


def test_a_page_from_elsewhere_cannot_upload(server: Running) -> None:
    assert upload(server, b"x", Origin="http://evil.example").status == 403


def test_a_missing_extra_and_an_unknown_language(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(_errors.UsageError, match="does not speak 'xx'"):
        rekindle.web.pages("xx")
    monkeypatch.setattr(rekindle.web.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(_errors.MissingExtraError, match=r"rekindle\[web\]"):
        rekindle.web.pages()
