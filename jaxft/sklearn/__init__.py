"""Domain adaptation with the face of scikit-learn."""

from jaxft.sklearn.adapter import DomainAdapter
from jaxft.sklearn.methods import METHODS

__all__ = ["METHODS", "DomainAdapter"]
