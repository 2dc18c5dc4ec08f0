"""Download one archive of a package from where pip is configured to look. Nothing is built, imported or run.

``pip download`` will not do: for a source archive it runs the package's ``setup.py`` to learn its metadata.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import logging
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from instatune_deploy.digests import CHUNK_BYTES
from instatune_deploy.errors import BadInput, clear_os_errors, reason

if TYPE_CHECKING:
    from unearth import Link
    from unearth.fetchers import PyPIClient

# ("index" or "find_links", URL or path)
Source = tuple[str, str]
DEFAULT_INDEX = "https://pypi.org/simple"
ATTEMPTS = 3
_log = logging.getLogger(__name__)


def download_archive(name: str, version: str, sha256: str, sink: IO[bytes], where: str) -> str:
    """Write the wheel or source archive of ``name==version`` whose bytes have ``sha256`` into ``sink``; returns its file name.

    ``BadInput``, beginning with ``where``, says what was expected and found, or what was tried.
    """
    import httpx2

    settings = pip_settings()
    sources = _sources(settings, where)
    found: list[str] = []
    trouble: list[str] = []
    with _session(settings) as session, _collected_warnings(trouble):
        for source in sources:
            for link in _links(session, source, f"{name}=={version}", trouble):
                advertised = (link.hash_option or {}).get("sha256")
                try:
                    # an index that says another checksum spares the download; folders of archives say none
                    seen = advertised[0] if advertised and sha256 not in advertised else _fetch(session, link, sink)
                except httpx2.HTTPError as error:
                    trouble.append(f"{link.redacted}: {reason(error)}")
                    continue
                if seen == sha256:
                    return link.filename
                found.append(f"{seen} ({link.filename})")
    if found:
        differing = ", ".join(dict.fromkeys(found))
        raise BadInput(f"{where}: {name}=={version} has another sha256: expected {sha256}, found {differing}")
    tried = ", ".join(_redacted(url) for _, url in sources)
    because = f" ({'; '.join(dict.fromkeys(trouble))})" if trouble else ""
    raise BadInput(f"{where}: no archive of {name}=={version} could be had; tried {tried}{because}")


def _links(session: Any, source: Source, requirement: str, trouble: list[str]) -> list[Link]:
    """The archives that one index or folder has for ``requirement``; what goes wrong is added to ``trouble``."""
    import httpx2
    from unearth import PackageFinder

    kind, url = source
    # any platform's wheel will do: it is opened, not installed
    finder = PackageFinder(session=session, index_urls=[], find_links=[], ignore_compatibility=True)
    finder.sources = [{"url": url, "type": kind}]
    try:
        packages = finder.find_matches(requirement, allow_yanked=True, allow_prereleases=True)
        return [package.link for package in packages if not package.link.is_vcs]
    except (httpx2.HTTPError, OSError, ValueError) as error:
        trouble.append(f"{_redacted(url)}: {reason(error)}")
        return []


def pip_settings() -> dict[str, str]:
    """pip's options for ``pip download``: from its files (global, then the command's own section), then from ``PIP_*``."""
    sections: dict[str, dict[str, str]] = {"global": {}, "download": {}}
    if importlib.util.find_spec("pip") is not None:
        # -P: a pip.py in the current folder is not pip
        command = [sys.executable, "-P", "-m", "pip", "config", "list"]
        listing = subprocess.run(command, capture_output=True, text=True, check=False)
        if listing.returncode != 0:
            raise BadInput(f"pip's configuration cannot be read: {(listing.stderr.strip().splitlines() or ['no message'])[-1]}")
        for line in listing.stdout.splitlines():
            key, _, value = line.partition("=")
            section, _, option = key.partition(".")
            if section in sections:
                sections[section][option] = str(ast.literal_eval(value))
    environment = {
        key[4:].lower().replace("_", "-"): value for key, value in os.environ.items() if key.startswith("PIP_") and value
    }
    return sections["global"] | sections["download"] | environment


def _sources(settings: dict[str, str], where: str) -> list[Source]:
    """Where to look, nearest first."""
    links = [os.path.expanduser(link) for link in settings.get("find-links", "").split()]
    # as pip does: a folder of archives that is not there is passed over
    sources: list[Source] = [("find_links", link) for link in links if "://" in link or Path(link).exists()]
    if settings.get("no-index", "").lower() not in {"1", "true", "yes", "on", "y", "t"}:
        indexes = [settings.get("index-url", DEFAULT_INDEX), *settings.get("extra-index-url", "").split()]
        sources += [("index", url) for url in indexes]
    if not sources:
        raise BadInput(f"{where}: pip is configured with no-index and without find-links; there is nowhere to download from")
    return sources


def _session(settings: dict[str, str]) -> PyPIClient:
    from unearth.auth import MultiDomainBasicAuth
    from unearth.fetchers import PyPIClient

    cert = settings.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE")
    with clear_os_errors(f"the certificates that pip is configured with ({cert}) cannot be read"):
        as_folder = cert is not None and Path(cert).is_dir()
        verify = ssl.create_default_context(capath=cert) if as_folder else ssl.create_default_context(cafile=cert)
        if "client-cert" in settings:
            verify.load_cert_chain(settings["client-cert"])
    session = PyPIClient(
        trusted_hosts=settings.get("trusted-host", "").split(),
        verify=verify,
        timeout=float(settings.get("timeout") or settings.get("default-timeout") or 15),
        follow_redirects=True,
        proxy=settings.get("proxy") or None,
    )
    indexes = [settings.get("index-url", DEFAULT_INDEX), *settings.get("extra-index-url", "").split()]
    session.auth = MultiDomainBasicAuth(prompting=False, index_urls=indexes)
    return session


def _fetch(session: PyPIClient, link: Link, sink: IO[bytes]) -> str:
    """Write the file behind ``link`` into ``sink``; returns its SHA-256."""
    import httpx2

    _log.info("downloading %s", link.redacted)
    attempt = 1
    while True:
        sink.seek(0)
        sink.truncate()
        checksum = hashlib.sha256()
        try:
            # as pip does: a server must not decompress or compress on the way, the checksum is of the file
            with session.get_stream(link.url_without_fragment, headers={"Accept-Encoding": "identity"}) as response:
                response.raise_for_status()
                for chunk in response.iter_raw(CHUNK_BYTES):
                    checksum.update(chunk)
                    sink.write(chunk)
            return checksum.hexdigest()
        except httpx2.TransportError:
            if attempt == ATTEMPTS:
                raise
            attempt += 1


def _redacted(url: str) -> str:
    from unearth import Link

    return Link(url).redacted if "://" in url else url


@contextmanager
def _collected_warnings(into: list[str]) -> Iterator[None]:
    """What unearth logs as a warning (an index that answers 404) belongs into our one line, not on the screen."""

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            into.append(record.getMessage())

    logger: Any = logging.getLogger("unearth")
    handler, propagate = Collector(logging.WARNING), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
