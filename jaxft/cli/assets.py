"""``jaxft assets``: the models and data that come inside ordinary packages."""

from __future__ import annotations

from typing import Annotated

import tyro

from jaxft.errors import InputError

Name = Annotated[str, tyro.conf.Positional]


def show() -> None:
    """List every asset, its licence, and where it is in the cache."""
    from jaxft.cli.tables import print_table
    from jaxft.files import cache_dir, listing

    rows = [
        (status.name, status.asset.about, status.asset.licence, "fetched" if status.directory else "not fetched")
        for status in listing()
    ]
    print_table(("asset", "content", "licence", "state"), rows, caption=f"cache: {cache_dir()}")


def fetch(name: Name, refresh: bool = False) -> None:
    """Fetch an asset into the cache and verify it; one that is there is not fetched again.

    Args:
        name: Name of the asset, as `jaxft assets list` shows it.
        refresh: Fetch it again although it is in the cache.
    """
    from jaxft.files import fetch as fetch_asset

    print(fetch_asset(name, refresh=refresh))


def verify(name: Name) -> None:
    """Hash an asset's files in the cache and compare them with those fetched.

    Args:
        name: Name of the asset, as `jaxft assets list` shows it.
    """
    from jaxft.files import verify as verify_asset

    damaged = verify_asset(name)
    if damaged:
        raise InputError(
            f"asset {name!r} is damaged in the cache: {', '.join(damaged)}; run `jaxft assets fetch {name} --refresh`"
        )
    print(f"{name}: every file is as it was fetched")
