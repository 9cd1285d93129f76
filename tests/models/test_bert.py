"""What encoders share, on BERT: types of computation, dropout, padding, and what they refuse."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.errors import InputError
from jaxft.models import load_model
from jaxft.types import Model
from tests.models.golden import Golden, finite, golden, run


def bert(**options) -> Golden:
    return golden("bert_gelu", **options)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_padding_does_not_change_logits(pooling: str):
    model, batch, _ = bert(pooling=pooling, num_labels=3)
    rng = np.random.default_rng(0)
    longer = {key: np.pad(array, ((0, 2), (0, 5))) for key, array in batch.items()}
    hidden = longer["attention_mask"] == 0
    longer["input_ids"][hidden] = rng.integers(0, 97, hidden.sum())

    def of_longer(params):
        outputs = model.apply(params, longer)
        return outputs.logits.sum(), outputs

    short = run(model, batch)
    (_, long), gradient = jax.jit(jax.value_and_grad(of_longer, has_aux=True))(model.params)
    np.testing.assert_allclose(long.logits[:-2], short.logits, atol=1e-5)
    np.testing.assert_allclose(long.features[:-2], short.features, atol=1e-5)
    assert finite(long), "rows of padding only stay finite"
    assert finite(gradient)


def test_mask_and_token_types_have_defaults():
    model, batch, _ = bert()
    ids = batch["input_ids"]
    explicit = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    defaults = run(model, {"input_ids": ids})
    np.testing.assert_allclose(defaults.logits, run(model, explicit).logits, atol=1e-6)


def loss(model: Model, batch: dict[str, np.ndarray], params, key=None):
    return jnp.square(model.apply(params, batch, train=key is not None, key=key).logits).sum()


def test_activations_have_their_closed_forms():
    from jaxft.models.layers import ACTIVATION_FUNCTIONS

    x = np.linspace(-8, 8, 101)
    tanh_form = x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    expected = {
        "gelu": x / 2 * (1 + np.array([math.erf(value / math.sqrt(2)) for value in x])),
        "gelu_new": tanh_form,
        "gelu_pytorch_tanh": tanh_form,
        "relu": np.maximum(x, 0),
        "silu": x / (1 + np.exp(-x)),
        "swish": x / (1 + np.exp(-x)),
        "tanh": np.tanh(x),
    }
    assert expected.keys() == ACTIVATION_FUNCTIONS.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(ACTIVATION_FUNCTIONS[name](jnp.float32(x)), values, atol=2e-6, err_msg=name)


def test_remat_gives_the_same_values_and_gradients():
    plain, batch, _ = bert()
    remat = bert(remat=True)[0]
    key = jax.random.key(3, impl="rbg")  # its bits are one instruction, the default's are hundreds to compile
    one, other = (
        jax.jit(jax.value_and_grad(partial(loss, model, batch)))(plain.params, key) for model in (plain, remat)
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), one, other)

    def checkpoints(model: Model) -> int:
        return str(jax.make_jaxpr(jax.grad(partial(loss, model, batch)))(plain.params)).count("remat")

    assert checkpoints(remat) > 0 == checkpoints(plain)


def test_bfloat16_computes_in_bfloat16_over_float32_params():
    model, batch, expected = bert(dtype=jnp.bfloat16)
    outputs = run(model, batch)
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {jnp.dtype("float32")}
    assert outputs.logits.dtype == outputs.features.dtype == jnp.float32
    assert {state.dtype for state in outputs.hidden_states} == {jnp.dtype("bfloat16")}
    assert np.abs(outputs.logits - expected["logits"]).max() < 0.2
    gradient = jax.eval_shape(jax.grad(partial(loss, model, batch)), model.params)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}


def test_dropout_follows_the_key_and_is_off_at_evaluation():
    model, batch, _ = bert()
    train = jax.jit(partial(model.apply, train=True))
    first, again, other = (train(model.params, batch, key=jax.random.key(seed)).logits for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
    evaluated = jax.jit(model.apply)(model.params, batch, key=jax.random.key(0))
    assert (evaluated.logits == run(model, batch).logits).all()
    with pytest.raises(InputError, match="needs a key"):
        train(model.params, batch)


def test_dropout_keeps_the_share_it_says_and_the_mean():
    from jaxft.models.layers import Dropout

    ones = jnp.ones((64, 257))
    dropped = Dropout(0.1).apply({}, ones, True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.9)}
    assert float((dropped == 0).mean()) == pytest.approx(0.1, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.01)


def test_an_input_beyond_the_positions_names_both():
    model, _, _ = bert()
    with pytest.raises(InputError, match=r"21 tokens long but the model has 20 positions"):
        model.apply(model.params, {"input_ids": np.zeros((1, 21), np.int32)})


@pytest.mark.parametrize(
    ("batch", "message"),
    [({"labels": np.zeros(2)}, "input_ids"), ({"input_ids": np.zeros(4, np.int32)}, r"\[batch, length\]; got \[4\]")],
)
def test_a_batch_of_another_form_is_refused(batch: dict[str, np.ndarray], message: str):
    model, _, _ = bert()
    with pytest.raises(InputError, match=message):
        model.apply(model.params, batch)


def test_minilm_knows_which_sentences_are_alike():
    model = load_model("minilm", task="features")
    texts = ["A cat sat on the mat.", "A feline rested on a rug.", "Stock markets fell sharply on Monday."]
    outputs = run(model, dict(model.tokenizer(texts, padding=True, return_tensors="np")))
    assert outputs.logits is None
    unit = outputs.features / jnp.linalg.norm(outputs.features, axis=1, keepdims=True)
    similarity = unit @ unit.T
    assert similarity[0, 1] > 0.5
    assert similarity[0, 2] < 0.1
