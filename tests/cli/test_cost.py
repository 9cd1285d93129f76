"""What methods would cost, from their compiled programs: side by side, for this machine and for TPUs."""

from __future__ import annotations

import importlib.util
import json
import typing

import pytest

from jaxft.cli.methods import METHODS, Name
from tests.cli.conftest import write_model

SMALL = ("--batch-size", 4, "--max-length", 8)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("cost") / "bert")


def costs(ended):
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def test_every_method_of_the_command_line_has_a_place_in_the_table():
    assert set(typing.get_args(Name)) == set(METHODS)


def test_methods_side_by_side(jaxft, base):
    found = costs(jaxft("cost", "--model", base, "--method", "full", "lora", "head", *SMALL, "--json"))
    full, lora, head = found["methods"]
    assert [one["method"] for one in found["methods"]] == ["full", "lora", "head"]
    assert full["trained"] > lora["trained"] > head["trained"] == 16 * 2 + 2
    assert full["flops"] > lora["flops"] > head["flops"]
    assert full["frozen_bytes"] == 0
    assert full["optimizer_bytes"] > 2 * 4 * full["trained"]
    assert all(one["fits"] for one in found["methods"])


@pytest.mark.slow
def test_every_method_fits_a_transformer(jaxft, base):
    found = costs(jaxft("cost", "--model", base, *SMALL, "--json"))
    assert [one["method"] for one in found["methods"]] == list(METHODS)
    assert found["left_out"] == {}


def test_a_quantised_base_is_smaller(jaxft, base):
    words = ("cost", "--model", base, "--method", "lora", *SMALL, "--json")
    plain, small = costs(jaxft(*words)), costs(jaxft(*words, "--quantise", "int8"))
    assert small["methods"][0]["frozen_bytes"] < plain["methods"][0]["frozen_bytes"]
    assert small["methods"][0]["trained"] == plain["methods"][0]["trained"]


def test_the_table_says_what_does_not_fit(jaxft, base):
    ended = jaxft("cost", "--model", base, "--method", "full", *SMALL, "--memory", 0.0001)
    assert ended.code == 0
    assert "full fine-tuning" in ended.out
    assert "no" in ended.out.split()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--batch-size", 0), "--batch-size must be at least 1"),
        (("--fsdp", 2), "--fsdp splits arrays over the devices of --topology"),
        (("--topology", "v5e"), "a version and a shape such as v5e:4x4"),
        (("--task", "lm"), "bert models are loaded for"),
        (("--method", "full", "--quantise", "nf4"), "--quantise needs a method that leaves the weights as they are"),
        (("--method", "ia3", "--rank", 4), "--rank belongs to --method lora"),
        (("--method", "head", "--max-length", 100), "100"),
    ],
)
def test_what_cannot_be_is_refused(jaxft, base, words, message):
    ended = jaxft("cost", "--model", base, *words)
    assert (ended.code, message in ended.err) == (2, True), ended.err


@pytest.mark.topology
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: run make test-topology"
)
def test_a_slice_that_is_not_there(jaxft, base):
    words = ("cost", "--model", base, "--method", "lora", *SMALL, "--topology", "v5e:2x2", "--json")
    replicated, split = costs(jaxft(*words)), costs(jaxft(*words, "--fsdp", 4))
    assert replicated["device_bytes"] == 16 * 2**30
    assert split["methods"][0]["frozen_bytes"] < replicated["methods"][0]["frozen_bytes"]
