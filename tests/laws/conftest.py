"""Writes docs/laws.md when asked to: which adaptation obeys which law, from the outcomes of the tests."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

MODULE = "test_laws_adaptations"
OUTCOMES = pytest.StashKey[dict[tuple[str, str], set[str]]]()

INTRODUCTION = """\
# Laws

Every adaptation is held to the same laws by `tests/laws/test_laws_adaptations.py`, on a Flax Linen net, an NNX net and
a plain function, or, where it needs a slot of ours, on a small transformer. `make laws` writes this page from the
outcomes: ✓ holds on all of them; a number says why a law is not asked.
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--laws", metavar="FILE", help="write the table of adaptations and laws there")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[OUTCOMES] = defaultdict(set)
    config.pluginmanager.register(_Recorder(config), "laws")


@pytest.fixture(autouse=True)
def named(request: pytest.FixtureRequest, record_property: Any) -> None:
    """Says in the report which method a test is about, as reports of parallel workers carry nothing else."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and request.module.__name__.endswith(MODULE):
        record_property("law", request.node.originalname.removeprefix("test_").replace("_", " "))
        record_property("method", callspec.params["method"])


class _Recorder:
    def __init__(self, config: pytest.Config):
        self.config, self.outcomes = config, config.stash[OUTCOMES]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        told = dict(report.user_properties)
        if "law" not in told or not (report.when == "call" or report.failed or report.skipped):
            return
        said = report.longrepr[2].removeprefix("Skipped: ") if report.skipped else report.outcome
        self.outcomes[str(told["method"]), str(told["law"])].add(said)

    def pytest_sessionfinish(self) -> None:
        path = self.config.getoption("--laws")
        if path and not hasattr(self.config, "workerinput"):
            Path(path).write_text(page(self.outcomes), encoding="utf-8")


def page(outcomes: dict[tuple[str, str], set[str]]) -> str:
    """The table in Markdown, with the laws down the side of a legend and the reasons under it."""
    methods = sorted({method for method, _ in outcomes})
    laws = list(dict.fromkeys(law for _, law in sorted(outcomes, key=lambda pair: pair[1])))
    reasons: dict[str, int] = {}

    def cell(method: str, law: str) -> str:
        found = outcomes.get((method, law), set())
        if "failed" in found:
            return "✗"
        skipped = sorted(found - {"passed"})
        numbers = " ".join(str(reasons.setdefault(reason, len(reasons) + 1)) for reason in skipped)
        return f"✓ {numbers}".strip() if "passed" in found else numbers or "?"

    letters = {law: chr(ord("A") + index) for index, law in enumerate(laws)}
    lines = [INTRODUCTION, "| | law |", "|---|---|", *(f"| {letters[law]} | {law} |" for law in laws), ""]
    lines += ["| method | " + " | ".join(letters.values()) + " |", "|---" * (len(laws) + 1) + "|"]
    lines += [f"| {method} | " + " | ".join(cell(method, law) for law in laws) + " |" for method in methods]
    lines += ["", *(f"{number}. {reason}" for reason, number in reasons.items())]
    return "\n".join(lines).rstrip() + "\n"
