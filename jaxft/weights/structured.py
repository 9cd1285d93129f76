"""What every structured weight is: an array kept in parts, which never becomes one array in silence."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import quax

from jaxft.types import PyTree

F = TypeVar("F", bound=Callable[..., Any])
_UNDERSTANDS = "__understands_structured__"


class MissingRuleError(TypeError):
    """A structured weight met a primitive that has no rule for it."""


class Structured(quax.ArrayValue):
    """A weight kept in parts. Sub-classes add parts, an ``aval``, ``materialise`` and rules for primitives."""

    @property
    def kind(self) -> str:
        """What the weight is, in a word or two."""
        return type(self).__name__

    def is_stack(self) -> bool:
        """Whether cutting every part along its first axis cuts the weight along its first axis."""
        return all(part.shape[0] == self.shape[0] for part in jax.tree.leaves(self))

    @staticmethod
    def default(primitive: Any, values: Sequence[Any], params: dict[str, Any]) -> Any:
        """Refuses, by name, whatever has no rule: materialising in silence would undo the saving."""
        kinds = ", ".join(
            f"{type(value).__name__} {jnp.dtype(value.dtype).name}{list(value.shape)}"
            for value in values
            if is_structured(value)
        )
        raise MissingRuleError(
            f"the primitive {primitive.name!r} has no rule for the structured weight {kinds}; "
            "leave this weight out of the selector, or call jaxft.merge before applying the model"
        )


def is_structured(leaf: Any) -> bool:
    """Whether a leaf of the params is a structured weight."""
    return isinstance(leaf, Structured)


def bind(primitive: Any, *args: Any, **params: Any) -> Any:
    """Binds a primitive on arrays and structured weights alike, for rules that recurse into a base."""
    return lift(functools.partial(primitive.bind, **params))(*args)


def lift(function: F) -> F:
    """Makes a JAX function understand structured weights among its arguments.

    A call without any is a plain call of the function, and a function that understands them already is returned.

    Args:
        function: any function of pytrees built from JAX primitives.

    Raises:
        MissingRuleError: a structured weight meets a primitive without a rule.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxft.weights import low_rank
        >>> w = low_rank(jnp.eye(3), jnp.ones((3, 1)), jnp.ones((1, 3)), scale=2.0)
        >>> lift(lambda w, x: x @ w)(w, jnp.ones(3))
        Array([7., 7., 7.], dtype=float32)
    """
    if getattr(function, _UNDERSTANDS, None) is function:
        return function

    @functools.wraps(function)
    def lifted(*args: Any, **kwargs: Any) -> Any:
        if not any(map(is_structured, jax.tree.leaves((args, kwargs), is_leaf=is_structured))):
            return function(*args, **kwargs)
        try:
            return quax.quaxify(function)(*args, **kwargs)
        except NotImplementedError as error:
            if "custom_vjp" not in str(error):
                raise
            raise MissingRuleError(
                "the primitive 'custom_vjp_call' has no rule beside structured weights: the model calls a function "
                "decorated with jax.custom_vjp; call jaxft.merge before applying the model, or use jax.custom_jvp"
            ) from error

    return understands_structured(cast(F, lifted))


def understands_structured(function: F) -> F:
    """Marks a function that takes structured weights by its own means, so that ``lift`` leaves it alone.

    The mark is the function itself: a wrapper that copies the attributes of what it wraps does not inherit it.
    """
    setattr(function, _UNDERSTANDS, function)
    return function


def materialise(leaf: Any) -> Any:
    """Returns a structured weight as one array of its dtype, computed in float32; other leaves as they are."""
    return leaf.materialise() if is_structured(leaf) else leaf


def materialise_all(tree: PyTree) -> PyTree:
    """Materialises every structured weight of a tree."""
    return jax.tree.map(materialise, tree, is_leaf=is_structured)
