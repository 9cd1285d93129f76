"""Trains a few steps with a cache of compiled programs:   python cached_run.py CACHE"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax

from jaxft.train import adamw, enable_compile_cache, fit
from jaxft.trees import fingerprint
from tests.train.linear import LinearBatches, linear_params, linear_step

if __name__ == "__main__":
    enable_compile_cache(sys.argv[1])
    step = linear_step(adamw(1e-2))
    frozen, state = step.init(jax.random.key(0), linear_params(), None)
    result = fit(step, frozen, state, LinearBatches(), steps=5, progress=False)
    print("fingerprint", fingerprint(result.state))
