"""Claims: processes that share a directory, are killed, sleep and come back do every run once."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxft.errors import InputError
from jaxft.study.claims import Claims, abandoned, chain, standing
from jaxft.study.store import Store
from tests.study.worker import main, row


def names(directory):
    return sorted(path.name for path in (directory / "claims").iterdir())


def claim_of_another(directory, key, *, age=0.0, **changes):
    """A claim as another machine's process left it, touched some seconds ago."""
    with Claims(directory) as theirs:
        claim = dataclasses.replace(theirs._claim(), **{"machine": "another", "stale": 30.0, **changes})
    path = directory / "claims" / key
    path.write_text(claim.text())
    touched = time.time() - age
    os.utime(path, (touched, touched))
    return claim


@pytest.fixture
def start(tmp_path):
    """Starts processes, forked from one that has imported what they need; those left are killed at the end."""
    started = []
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.study.worker"])

    def begin(runs, seconds, stale):
        started.append(context.Process(target=main, args=(tmp_path / "study", runs, seconds, stale)))
        started[-1].start()
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.join()


def ended(process):
    process.join(120)
    return process.exitcode


def study(directory, runs):
    planned = {f"{number:016x}": {"seed": number} for number in range(runs)}
    return Store.open(directory, name="shared", fields=["seed"], axes={}, planned=planned)


def log(directory):
    lines = [line.split() for path in directory.glob("log.*") for line in path.read_text().splitlines()]
    return [(key, what, int(pid)) for key, what, pid in lines]


def test_a_key_is_taken_once_and_free_again_after_release(tmp_path):
    with Claims(tmp_path) as ours, Claims(tmp_path) as theirs:
        assert ours.take(["a", "b"]) == ["a", "b"]
        assert ours.take(["a"]) == theirs.take(["a", "b"]) == []
        ours.release(["a", "unknown"])
        assert theirs.take(["b", "a"]) == ["a"]
        assert not ours.still_held("a")
        assert theirs.still_held("a")
    assert names(tmp_path) == []


def test_claims_are_released_when_the_work_fails(tmp_path):
    def fail():
        with Claims(tmp_path) as claims:
            claims.take(["a"])
            raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        fail()
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["ended", "another of its number"])
def test_the_claim_of_a_dead_process_of_this_machine_is_free_at_once(tmp_path, kind):
    with Claims(tmp_path) as ours:
        dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
        pid = int(dead.stdout) if kind == "ended" else os.getpid()
        claim_of_another(tmp_path, "a", machine=ours._claim().machine, pid=pid, started=1)
        assert ours.take(["a"]) == ["a"]


def test_the_claim_of_a_process_not_yet_reaped_is_free(tmp_path):
    with Claims(tmp_path) as ours:
        process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
        process.stdout.read()
        process.stdout.close()
        own = ours._claim()
        claim_of_another(tmp_path, "a", machine=own.machine, pid=process.pid, started=own.started)
        deadline = time.monotonic() + 20
        while not ours.take(["a"]):
            assert time.monotonic() < deadline
        process.wait()


@pytest.mark.parametrize(("age", "free"), [(0, False), (20, False), (40, True)])
def test_the_claim_of_another_machine_is_free_when_it_is_older_than_its_own_limit(tmp_path, age, free):
    claim_of_another(tmp_path, "a", age=age)
    with Claims(tmp_path, stale=1.0) as ours:
        assert standing(tmp_path, ["a", "b"])["a"][1] == free
        assert ours.take(["a"]) == ["a"] * free


def test_time_is_the_file_servers_and_not_ours(tmp_path, monkeypatch):
    claim_of_another(tmp_path, "a", age=0)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    with Claims(tmp_path) as ours:
        assert ours.take(["a"]) == []
    assert not standing(tmp_path, ["a"])["a"][1]


def test_a_claim_is_kept_alive_while_its_owner_lives(tmp_path):
    with Claims(tmp_path, stale=0.6) as ours:
        ours.take(["a"])
        for _ in range(8):
            time.sleep(0.15)
            ((_, claim, touched),) = chain(tmp_path / "claims", "a", 1.0)
            assert not abandoned(claim, touched, (tmp_path / "claims" / "a").stat().st_mtime + 0.3)
        assert time.time() - touched < 0.5
        assert ours.still_held("a")


def test_an_owner_that_slept_notices_that_it_was_succeeded(tmp_path):
    with Claims(tmp_path, stale=30.0) as sleeper, Claims(tmp_path) as ours, Claims(tmp_path) as third:
        assert sleeper.take(["a"]) == ["a"]
        os.utime(tmp_path / "claims/a", (1, 1))
        assert ours.take(["a"]) == ["a"]
        assert not sleeper.still_held("a")
        sleeper.release(["a"])
        assert ours.still_held("a")
        assert third.take(["a"]) == []
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", ["", "{}", '{"token": '])
def test_a_damaged_claim_is_free_when_it_is_stale(tmp_path, content):
    with Claims(tmp_path, stale=5.0) as ours:
        (tmp_path / "claims/a").write_text(content)
        assert ours.take(["a"]) == []
        os.utime(tmp_path / "claims/a", (1, 1))
        assert ours.take(["a"]) == ["a"]
    assert names(tmp_path) == []


def test_of_many_who_take_over_at_once_one_succeeds(tmp_path):
    workers = 8
    for turn in range(40):
        claim_of_another(tmp_path, f"{turn}", age=60)
    gate = threading.Barrier(workers)

    def take(claims):
        taken = []
        for turn in range(40):
            gate.wait()
            taken += claims.take([f"{turn}"])
        return taken

    everybody = [Claims(tmp_path) for _ in range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        taken = [key for keys in pool.map(take, everybody) for key in keys]
    assert Counter(taken) == {f"{turn}": 1 for turn in range(40)}


def test_a_claim_released_and_taken_anew_is_not_taken_over_on_old_knowledge(tmp_path, monkeypatch):
    """What was judged abandoned may have been succeeded, released, and claimed by a third before we act."""
    claim_of_another(tmp_path, "a", age=60)
    with Claims(tmp_path) as ours, Claims(tmp_path) as second, Claims(tmp_path) as third:
        from jaxft.study import claims as module

        link = module.link_new

        def late(file, path):
            monkeypatch.setattr(module, "link_new", link)
            assert second.take(["a"]) == ["a"]
            second.release(["a"])
            assert third.take(["a"]) == ["a"]
            return link(file, path)

        monkeypatch.setattr(module, "link_new", late)
        assert ours.take(["a"]) == []
        assert third.still_held("a")
        assert names(tmp_path) == ["a"]


def test_what_killed_processes_leave_is_swept(tmp_path):
    with Claims(tmp_path, stale=20.0) as ours:
        for name in ("a", "a.0123", "b", ".new.partial", ".old.partial"):
            (tmp_path / "claims" / name).touch()
        os.utime(tmp_path / "claims/.old.partial", (1, 1))
        ours.sweep({"a"})
        assert names(tmp_path) == [".new.partial", "b"]


def test_a_directory_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot write /proc/study/claims"):
        Claims("/proc/study")
    with pytest.raises(InputError, match="a positive number of seconds, got 0"):
        Claims(tmp_path, stale=0)


def test_processes_killed_at_random_lose_nothing_and_repeat_only_what_they_had_begun(tmp_path, start):
    runs, kills = 120, 12
    store, rng = study(tmp_path / "study", runs), random.Random(0)
    workers, killed = [start(runs, 0.02, 600) for _ in range(3)], set()
    while len(killed) < kills and len(store.finished()) < runs - 10:
        index = rng.randrange(3)
        while not (tmp_path / f"log.{workers[index].pid}").exists():  # killed at work, and not while it starts
            time.sleep(0.01)
        time.sleep(rng.random() * 0.1)
        workers[index].kill()
        workers[index].join()
        killed.add(workers[index].pid)
        workers[index] = start(runs, 0.02, 600)
    for worker in workers:
        assert ended(worker) == 0
    assert len(killed) >= 8
    assert store.rows() == [row(f"{number:016x}") for number in range(runs)]
    begun = Counter(key for key, what, pid in log(tmp_path) if what == "begin" and pid not in killed)
    done = Counter(key for key, what, _ in log(tmp_path) if what == "done")
    assert max(begun.values()) == 1
    assert max(done.values()) == 1
    finished_by_the_killed = {key for key, what, pid in log(tmp_path) if what == "done" and pid in killed}
    assert not finished_by_the_killed & begun.keys()
    assert all(name.endswith(".partial") for name in names(tmp_path / "study"))


def test_a_process_that_is_stopped_and_continued_adds_nothing_after_it_was_succeeded(tmp_path, start):
    store = study(tmp_path / "study", 1)
    sleeper = start(1, 0.5, 0.4)
    while not log(tmp_path):
        time.sleep(0.01)
    os.kill(sleeper.pid, signal.SIGSTOP)
    time.sleep(0.5)
    assert ended(start(1, 0.01, 0.4)) == 0
    os.kill(sleeper.pid, signal.SIGCONT)
    assert ended(sleeper) == 0
    assert [what for _, what, pid in log(tmp_path) if pid == sleeper.pid] == ["begin"]
    assert len(store.rows()) == 1
