"""Files: the cache, writing that is all or nothing, and models and data that install as packages."""

from __future__ import annotations

from jaxft.files.archive import extract
from jaxft.files.assets import AssetStatus, fetch, listing, verify
from jaxft.files.atomic import atomic_directory, atomic_file
from jaxft.files.cache import cache_dir
from jaxft.files.catalogue import ASSETS, Asset
from jaxft.files.download import sha256
from jaxft.files.json_object import read_json_object
from jaxft.files.layout import Layout

__all__ = [
    "ASSETS",
    "Asset",
    "AssetStatus",
    "Layout",
    "atomic_directory",
    "atomic_file",
    "cache_dir",
    "extract",
    "fetch",
    "listing",
    "read_json_object",
    "sha256",
    "verify",
]
