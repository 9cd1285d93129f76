"""The order of rows: every epoch visits each once, as a function of the seed."""

from __future__ import annotations

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.study.feed import feed
from jaxft.study.order import Order


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(1, 40), batch_size=st.integers(1, 12), share=st.floats(0, 1), epoch=st.integers(0, 3))
def test_an_epoch_visits_every_chosen_row_once(rows, batch_size, share, epoch):
    chosen = max(1, round(share * rows))
    order = Order(rows, batch_size, chosen)
    key = jax.random.key(3)
    plan = order.epoch(key, epoch)
    seen = []
    for step in range(order.steps_per_epoch):
        places, mask = order.batch(plan, epoch * order.steps_per_epoch + step)
        seen += np.asarray(places)[np.asarray(mask)].tolist()
    assert len(seen) == len(set(seen)) == chosen
    first = order.epoch(key, 0)
    assert set(np.asarray(first).tolist()) == set(np.asarray(plan).tolist()), "the chosen rows stay the same"


def test_views_have_orders_of_their_own_and_only_labelled_ones_are_cut():
    columns = {"source": {"x": np.arange(12), "labels": np.arange(12)}, "target": {"x": np.arange(20)}}
    stream = feed(columns, jax.random.key(0), batch_size=4, chosen=8)
    assert stream.orders["source"].steps_per_epoch == 2
    assert stream.orders["target"].steps_per_epoch == 5
    epochs = stream.start()
    seen = {"source": [], "target": []}
    for step in range(5):
        batch = stream.batch(epochs, step)
        for view, held in seen.items():
            held += np.asarray(batch[view]["x"]).tolist()
        epochs = stream.advance(epochs, np.int32(step))
    assert sorted(seen["target"]) == list(range(20))
    assert len(set(seen["source"])) == 8
    assert sorted(seen["source"][:8]) == sorted(seen["source"][8:16])
