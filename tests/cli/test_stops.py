"""Runs that end early, in processes of their own: killed, asked to end, or no longer finite."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import jax

from jaxft.cli.rebuild import load_run
from jaxft.trees import fingerprint

PROGRAM = "import sys; from jaxft.cli import main; sys.exit(main())"
# As on a full disk: no file can grow beyond three thousand bytes, which a checkpoint does.
FULL_DISK = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)); " + PROGRAM
LONG = {"epochs": 40, "evaluate_every": 60, "save_every": 5}


def start(words, program=PROGRAM, **environment):
    command = [sys.executable, "-c", program, *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=os.environ | environment)


def wait_for(path, process, seconds=120):
    """Waits until a file is there while the process runs."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def content(out):
    """What must be the same bits: lines of metrics, the checkpoints there are, and every array of the chosen one."""
    trained = load_run(out)
    steps = sorted(path.name for path in (out / "checkpoints").iterdir())
    return (out / "metrics.jsonl").read_bytes(), steps, fingerprint(jax.device_get(trained.state))


def test_a_killed_run_resumes_bit_for_bit(jaxft, finetune_words, tmp_path):
    assert jaxft(*finetune_words(tmp_path / "whole", **LONG)).code == 0
    process = start(finetune_words(tmp_path / "killed", **LONG))
    wait_for(tmp_path / "killed" / "checkpoints" / "step_00000010" / "manifest.json", process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "report.md").exists()
    ended = jaxft(*finetune_words(tmp_path / "killed", **LONG, resume=True))
    assert ended.code == 0, ended.err
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert (tmp_path / "killed" / "report.md").exists()


def test_a_run_killed_before_its_first_file_was_whole(jaxft, finetune_words, tmp_path):
    (tmp_path / "run" / ".run.json.abc.partial").mkdir(parents=True)
    assert jaxft(*finetune_words(tmp_path / "run", method="head", epochs=1, resume=True)).code == 0
    assert (tmp_path / "run" / "run.json").is_file()


def test_a_run_asked_to_end_saves_and_says_so(jaxft, finetune_words, tmp_path):
    words = finetune_words(tmp_path / "run", **LONG)
    process = start(words)
    wait_for(tmp_path / "run" / "checkpoints" / "step_00000005" / "manifest.json", process)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "SIGTERM ended the run after step" in errors
    assert "Traceback" not in errors
    assert jaxft(*words, "--resume").code == 0


def test_a_loss_that_is_not_finite(jaxft, finetune_words, tmp_path):
    ended = jaxft(*finetune_words(tmp_path / "run", method="full", lr=1e30, warmup=0))
    assert ended.code == 1
    message = ended.err.strip().splitlines()[-1]
    assert "at step" in message
    assert "lower the learning rate" in message
    assert "Traceback" not in ended.err


def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(jaxft, finetune_words, tmp_path):
    words = finetune_words(tmp_path / "run", method="full", epochs=1)
    process = start(words, FULL_DISK, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "jax"))  # it would hold torn programs
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    # The threads that wrote the checkpoint may print what they stumble over, in between.
    assert re.search(r"jaxft: failed with .*File too large.*; --debug shows where", errors), errors
    assert jaxft(*words, "--resume").code == 0


def test_a_refusal_is_the_only_line(finetune_words, tmp_path):
    process = start(finetune_words(tmp_path / "run", max_length=25))
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert printed == ""
    assert [line[:22] for line in errors.splitlines()] == ["jaxft: max_length must"], errors


def test_resuming_what_is_done_changes_nothing(run, jaxft, finetune_words):
    before = content(run)
    assert jaxft(*finetune_words(run, resume=True)).code == 0
    assert content(run) == before
