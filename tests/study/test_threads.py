"""Runs that are made at a time, in as many threads as a CPU has cores: how many, and that their bits are the same."""

from __future__ import annotations

import os
import threading

import jax
import pytest

import jaxft as ft
from jaxft.study.memory import threads
from jaxft.study.program import compile_program
from jaxft.study.trace import trace
from tests.study.every_float import Config, build

SEEDS = [{"seed": seed} for seed in range(5)]


@pytest.fixture
def cores(monkeypatch):
    """Lets this process have another number of cores."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return lambda count: monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(count)))


@pytest.fixture(scope="module")
def traced():
    return trace(build, Config(), ["seed"], {})


def bits_of(directory, grid, **options):
    rows = ft.run_study(build, Config(), grid, directory=directory, **options)
    return {row["key"]: row["provenance"]["bits"] for row in rows}, {row["program"]["threads"] for row in rows}


@pytest.mark.parametrize(
    "grid",
    [
        ft.grid(method="lora", rank=ft.masked(1, 4), dropout=(0.1, 0.5), seed=(0, 1)),
        ft.grid(method="head", lr=(1e-3, 1e-2), seed=(0, 1, 2)),
    ],
)
def test_runs_in_threads_have_the_bits_of_runs_one_by_one(grid, cores, tmp_path):
    cores(1)
    one_by_one, alone = bits_of(tmp_path / "one", grid)
    cores(3)
    found, together = bits_of(tmp_path / "three", grid)
    assert (alone, together) == ({1}, {3})
    assert found == one_by_one
    assert len(set(found.values())) == len(found)


def test_as_many_calls_are_under_way_as_there_are_threads(cores, traced):
    cores(3)
    program = compile_program(traced, lanes=6, stack="map")
    together = threading.Barrier(3)

    def call(*given):
        together.wait(timeout=60)  # breaks unless three calls wait here at once
        return program.call(*given)

    found, _ = program._replace(call=call).run([{"seed": seed} for seed in range(6)])
    expected, _ = program._replace(threads=1).run([{"seed": seed} for seed in range(6)])
    jax.tree.map(lambda one, other: None if (one == other).all() else pytest.fail("other bits"), found, expected)
    assert len(found) == 6


def test_threads_are_no_more_than_runs_or_cores(cores, traced):
    cores(4)
    assert [compile_program(traced, lanes=runs, stack="map").threads for runs in (3, 9)] == [3, 4]
    assert compile_program(traced, lanes=9, stack="vmap").threads == 1
    cores(1)
    assert compile_program(traced, lanes=9, stack="map").threads == 1


def test_calls_at_a_time_fit_the_memory_limit_together(cores, traced):
    cores(4)
    one = compile_program(traced, lanes=1, stack="map")
    own = one.bytes - traced.nbytes
    for count in (1, 3):
        limit = traced.nbytes + count * own + own // 2
        assert compile_program(traced, lanes=8, stack="map", memory_limit=limit).threads == count


def test_a_call_that_fails_ends_the_study_with_its_error(cores, traced):
    cores(2)
    program = compile_program(traced, lanes=5, stack="map")

    def call(*given):
        raise FloatingPointError("as a device says it")

    with pytest.raises(FloatingPointError, match="as a device says it"):
        program._replace(call=call).run(SEEDS)


def test_chunks_side_by_side_keep_the_order_of_the_runs(cores, traced):
    cores(2)
    program = compile_program(traced, lanes=2, stack="vmap")._replace(threads=2)
    found, _ = program.run(SEEDS)
    expected = [program.run([seed])[0][0] for seed in SEEDS]
    assert len(found) == len(SEEDS)
    for one, other in zip(found, expected, strict=True):
        assert (one.digest == other.digest).all()


def test_a_share_of_the_machine_is_kept_to(cores, traced, monkeypatch):
    cores(4)
    for share, expected in (("1", 1), ("3", 3), ("8", 4), ("0", 4), ("4,2", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", share)
        assert threads() == expected
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert compile_program(traced, lanes=5, stack="map").threads == 2


def test_the_machine_at_hand_is_asked(traced, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    have = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert compile_program(traced, lanes=64, stack="map").threads == min(have, 64)
