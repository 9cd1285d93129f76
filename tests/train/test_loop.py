"""The loop: what it writes, when it stops, and what it leaves alone."""

from __future__ import annotations

import json
import math
import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from jaxft.train import Interrupted, NonFiniteLoss, adamw, fit, restore
from jaxft.train.recorder import Recorder
from jaxft.trees import fingerprint
from jaxft.types import Step
from tests.train.linear import LinearBatches, accuracy, linear_params, linear_step


def begin(optimizer=None):
    step = linear_step(optimizer or adamw(1e-2))
    frozen, state = step.init(jax.random.key(3), linear_params(), LinearBatches()[0])
    return step, frozen, state


def test_learns_and_writes_what_it_saw(tmp_path):
    result = fit(
        *begin(), LinearBatches(), steps=64, directory=tmp_path, evaluate=accuracy, evaluate_every=32, progress=False
    )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == result.history
    losses = [line["loss"] for line in lines if "loss" in line]
    assert [line["step"] for line in lines if "loss" in line] == [10, 20, 30, 40, 50, 60, 64]
    assert losses[-1] < losses[0] - 0.2
    assert [line["step"] for line in lines if "eval/accuracy" in line] == [32, 64]
    timings = [json.loads(line) for line in (tmp_path / "timings.jsonl").read_text().splitlines()]
    assert all(line["steps_per_second"] > 0 for line in timings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "metrics.jsonl", "timings.jsonl"]


def test_equals_a_loop_written_by_hand_and_is_traced_once():
    step, frozen, state = begin()
    traces = []

    def counted(*arguments):
        traces.append(1)
        return step.update(*arguments)

    result = fit(Step(step.init, counted), frozen, state, LinearBatches(), steps=12, progress=False)
    assert len(traces) == 1
    update, expected = jax.jit(step.update), state
    for index in range(12):
        expected, _ = update(frozen, expected, LinearBatches()[index])
    assert fingerprint(result.state) == fingerprint(expected)


def test_the_callers_arrays_stay_valid():
    params = linear_params()
    step = linear_step(adamw(1e-2))
    frozen, state = step.init(jax.random.key(3), params, None)
    before = fingerprint(params), fingerprint(frozen), fingerprint(state)
    state = state._replace(memory={**state.memory, "copy": params["head"]["kernel"]})
    result = fit(step, frozen, state, LinearBatches(), steps=3, progress=False)
    assert (fingerprint(params), fingerprint(frozen)) == before[:2]
    assert fingerprint(state._replace(memory={k: v for k, v in state.memory.items() if k != "copy"})) == before[2]
    assert not np.array_equal(result.state.delta["head"]["kernel"], params["head"]["kernel"])


def test_metrics_are_read_late():
    seen = []

    class Watched(LinearBatches):
        def __getitem__(self, step):
            seen.append(step)
            return super().__getitem__(step)

    with pytest.raises(NonFiniteLoss) as stopped:
        fit(*begin(), Watched(spoilt=20), steps=60, progress=False)
    assert stopped.value.step == 21
    assert 21 < max(seen) < 30


def test_a_label_that_is_no_class_is_pointed_at():
    class Mislabelled(LinearBatches):
        def __getitem__(self, step):
            batch = super().__getitem__(step)
            return batch | {"labels": np.where(np.arange(len(batch["labels"])) == step, 7, batch["labels"])}

    with pytest.raises(NonFiniteLoss, match=r"the batch of that step, whose labels run from 0 to 7: one that is no"):
        fit(*begin(), Mislabelled(), steps=10, progress=False)


@pytest.mark.parametrize("spoilt", [0, 9, 10, 25])
def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_last_good_checkpoint(tmp_path, spoilt):
    with pytest.raises(
        NonFiniteLoss, match=f"the loss is nan and the grad_norm is nan at step {spoilt + 1};"
    ) as stopped:
        fit(
            *begin(),
            LinearBatches(spoilt=spoilt),
            steps=60,
            directory=tmp_path,
            evaluate=accuracy,
            save_every=5,
            log_every=1,
            progress=False,
        )
    good = 5 * (spoilt // 5)
    assert stopped.value.saved == (good or None)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, spoilt + 1))
    if good:
        assert f"the last good checkpoint is of step {good}" in str(stopped.value)
        state = restore(tmp_path / "checkpoints", begin()[2]).state
        assert int(state.step) == good
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(state.delta))


def test_a_gradient_that_is_not_finite_stops_too():
    step, frozen, state = begin()

    def update(frozen, state, batch):
        state, metrics = step.update(frozen, state, batch)
        return state, {**metrics, "grad_norm": jnp.where(state.step == 4, jnp.inf, metrics["grad_norm"])}

    with pytest.raises(NonFiniteLoss, match="the grad_norm is inf at step 4; nothing was saved"):
        fit(Step(step.init, update), frozen, state, LinearBatches(), steps=20, progress=False)


class Terminating(LinearBatches):
    def __getitem__(self, step):
        if step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().__getitem__(step)


def test_sigterm_saves_the_step_under_way_and_puts_the_handler_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(
        Interrupted, match="SIGTERM ended the run after step 8 of 20; the last good checkpoint is of step 8"
    ):
        fit(*begin(), Terminating(), steps=20, directory=tmp_path, progress=False)
    assert signal.getsignal(signal.SIGTERM) is before
    resumed = fit(*begin(), LinearBatches(), steps=20, directory=tmp_path, resume=True, progress=False)
    assert fingerprint(resumed.state) == fingerprint(fit(*begin(), LinearBatches(), steps=20, progress=False).state)


def test_runs_in_another_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(fit(*begin(), LinearBatches(), steps=2, progress=False)))
    thread.start()
    thread.join()
    assert int(results[0].state.step) == 2


def test_accumulating_two_halves_equals_the_whole_batch():
    class Halves(LinearBatches):
        def __getitem__(self, step):
            whole = super().__getitem__(step // 2)
            return {name: value[8 * (step % 2) :][:8] for name, value in whole.items()}

    def final(accumulate, batches, steps):
        step = linear_step(adamw(1e-2, accumulate=accumulate, clip=0.5), noise=0.0)
        frozen, state = step.init(jax.random.key(3), linear_params(), batches[0])
        return fit(step, frozen, state, batches, steps=steps, progress=False).state.delta

    for halves, whole in zip(
        jax.tree.leaves(final(2, Halves(), 40)), jax.tree.leaves(final(1, LinearBatches(), 20)), strict=True
    ):
        np.testing.assert_allclose(halves, whole, rtol=2e-5, atol=1e-6)


def test_resuming_an_empty_directory_begins_at_the_start(tmp_path):
    result = fit(*begin(), LinearBatches(), steps=3, directory=tmp_path / "new", resume=True, progress=False)
    assert int(result.state.step) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": -1}, "cannot be negative"),
        ({"log_every": 0}, "log_every is a number of steps"),
        ({"save_every": 0}, "save_every is a number of steps"),
        ({"evaluate_every": -2}, "evaluate_every is a number of steps"),
        ({"best": "accuracy"}, "there is no evaluation"),
        ({"best": "acuracy", "evaluate": accuracy}, "nearest: accuracy"),
        ({"best_mode": "maximum"}, "'max' or 'min', but is 'maximum'"),
    ],
)
def test_wrong_options_are_refused(options, said):
    with pytest.raises(ft.InputError, match=said):
        fit(*begin(), LinearBatches(), **{"steps": 2, "progress": False, **options})


def test_a_misspelt_best_metric_costs_no_training(tmp_path):
    options = {"steps": 4, "directory": tmp_path, "evaluate": accuracy, "best_mode": "max", "progress": False}
    with pytest.raises(ft.InputError, match="nearest: accuracy"):
        fit(*begin(), LinearBatches(), best="acuracy", **options)
    again = fit(*begin(), LinearBatches(), best="accuracy", resume=True, **options)
    assert again.history[-1]["step"] == 4
    assert fingerprint(again.state) == fingerprint(fit(*begin(), LinearBatches(), steps=4, progress=False).state)


def test_fewer_steps_than_were_made_are_refused(tmp_path):
    fit(*begin(), LinearBatches(), steps=4, directory=tmp_path, progress=False)
    lines = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(ft.InputError, match="4 updates are made already, more than the 3 asked for"):
        fit(*begin(), LinearBatches(), steps=3, directory=tmp_path, resume=True, progress=False)
    assert (tmp_path / "metrics.jsonl").read_bytes() == lines


def test_a_step_without_a_loss_is_refused():
    step, frozen, state = begin()
    nameless = Step(step.init, lambda *given: (step.update(*given)[0], {"accuracy": jnp.float32(1)}))
    with pytest.raises(ft.InputError, match="must hold its loss, but they hold only accuracy"):
        fit(nameless, frozen, state, LinearBatches(), steps=1, progress=False)


def test_a_number_json_has_not_is_written_as_null(tmp_path):
    recorder = Recorder(tmp_path / "lines")
    recorder.write(1, {"a": math.nan, "b": 0.1})
    recorder.close()
    assert (tmp_path / "lines").read_text() == '{"step": 1, "a": null, "b": 0.1}\n'


def test_metrics_that_are_no_scalars_are_refused():
    step, frozen, state = begin()

    def update(*given):
        state, metrics = step.update(*given)
        return state, {**metrics, "each": jnp.ones(3)}

    with pytest.raises(ft.InputError, match=r"'each' has shape \(3,\)"):
        fit(Step(step.init, update), frozen, state, LinearBatches(), steps=1, progress=False)


def test_sigterm_in_the_last_step_still_ends_the_script(tmp_path):
    with pytest.raises(Interrupted, match="after step 8 of 8; the last good checkpoint is of step 8"):
        fit(*begin(), Terminating(), steps=8, directory=tmp_path, progress=False)


def test_the_bar_is_drawn_on_a_terminal_only(monkeypatch, capsys):
    fit(*begin(), LinearBatches(), steps=3)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    fit(*begin(), LinearBatches(), steps=20)
    drawn = capsys.readouterr().err
    assert "20/20" in drawn
    assert "steps/s" in drawn
    assert "loss" in drawn


def test_any_optimizer_serves():
    result = fit(*begin(optax.sgd(0.5)), LinearBatches(), steps=5, progress=True)
    assert int(result.state.step) == 5
