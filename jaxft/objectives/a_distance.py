"""The proxy A-distance: how well a linear classifier tells two domains apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxft.errors import InputError


def proxy_a_distance(source: Any, target: Any, *, seed: int = 0) -> float:
    """d = 2 (1 − 2ε), ε the error of a linear classifier of the domain on rows that it has not seen.

    Half of each domain, drawn by the seed, trains a logistic regression on features scaled to mean zero and deviation
    one; ε is its error on the other half, each domain counting one half. Two domains that are one give about zero,
    also a little below; domains that a plane separates give two. For figures, not for training: it has no gradient.

    Args:
        source: features ``[n, dim]``, on the host.
        target: ``[m, dim]``.
        seed: of the halves.

    Raises:
        InputError: the features differ in size, are not finite, or one domain has fewer than four rows.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(200, 3))
        >>> proxy_a_distance(x, x + 10)
        2.0

    References:
        Ben-David et al., "Analysis of Representations for Domain Adaptation", 2007. Ganin et al., "Domain-Adversarial
        Training of Neural Networks", 2016.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    s, t = (np.asarray(x, np.float64) for x in (source, target))
    for name, x in (("source", s), ("target", t)):
        if x.ndim != 2 or len(x) < 4:
            raise InputError(f"the proxy A-distance expects four rows [rows, dim] or more of the {name}, got {x.shape}")
        if not np.isfinite(x).all():
            raise InputError(f"features of the {name} are not finite")
    if s.shape[1] != t.shape[1]:
        raise InputError(
            f"the proxy A-distance compares features of one size, but the source has {s.shape[1]} and the target "
            f"{t.shape[1]}"
        )
    draw = np.random.default_rng(seed)
    halves = [np.array_split(x[draw.permutation(len(x))], 2) for x in (s, t)]
    domain = np.repeat([0, 1], [len(seen) for seen, _ in halves])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))
    classifier.fit(np.concatenate([seen for seen, _ in halves]), domain)
    wrong = [float((classifier.predict(unseen) != which).mean()) for which, (_, unseen) in enumerate(halves)]
    return float(2 * (1 - sum(wrong)))
