"""The page of a study, in a real browser: what is shown, what clicks and keys do, and that it asks for nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jaxft.errors import InputError
from jaxft.study.page import write_page
from tests.study.browser import CHROMIUM, Browser
from tests.study.rows import made_up, study_rows

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: on Debian, apt-get install chromium")
ROWS = study_rows()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "study.html"
    write_page(ROWS, path, title="Methods & rates", directory="runs/my study")
    return path.as_uri()


@pytest.fixture(autouse=True)
def nothing_to_complain_of(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "browser" in request.fixturenames:
        browser = request.getfixturevalue("browser")
        complaints, browser.complaints = browser.complaints, []
        assert complaints == []


def column(browser: Browser, name: str) -> list[str]:
    """The cells under a heading, as they are read."""
    headings = browser.evaluate(
        "[...document.querySelectorAll('#head tr:last-child th')].map((cell) => cell.innerText)"
    )
    place = [heading.strip() for heading in headings].index(name)
    return browser.evaluate(f"[...document.querySelectorAll('#body tr')].map((row) => row.cells[{place}].innerText)")


def text(browser: Browser, selector: str) -> str:
    return browser.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")


def count(browser: Browser, selector: str) -> int:
    return browser.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length")


def address(browser: Browser) -> str:
    return browser.evaluate("decodeURIComponent(location.hash)")


@needs_browser
def test_shows_every_run_best_first(browser: Browser, page: str) -> None:
    browser.open(page)
    assert text(browser, "h1") == "Methods & rates"
    assert text(browser, "#summary") == "60 runs, 2 diverged"
    assert text(browser, "#place") == "1–50 of 60 runs"
    best = sorted((row["metrics"]["accuracy"] for row in ROWS if row["status"] == "finished"), reverse=True)
    # The section "test" comes before "validation", which has an accuracy as well.
    assert column(browser, "accuracy") == [f"{value:.4f}" for value in best[:50]]
    browser.click("#next")
    assert column(browser, "accuracy")[-3:] == [f"{best[-1]:.4f}", "–", "–"]
    assert column(browser, "status")[-2:] == ["diverged", "diverged"]
    assert address(browser) == "#page=2"


@needs_browser
def test_a_click_on_a_heading_sorts_numbers_as_numbers_and_keeps_nulls_last(browser: Browser, page: str) -> None:
    browser.open(f"{page}#config.method=full")
    sort = "document.getElementById('sort-metrics.loss').closest('th').getAttribute('aria-sort')"
    assert browser.evaluate(sort) == "none"
    browser.click("[id='sort-metrics.loss']")
    rising = column(browser, "loss")
    assert browser.evaluate(sort) == "ascending"
    assert rising[-2:] == ["–", "–"]
    assert [float(value) for value in rising[:-2]] == sorted(float(value) for value in rising[:-2])
    browser.click("[id='sort-metrics.loss']")
    falling = column(browser, "loss")
    assert browser.evaluate(sort) == "descending"
    assert falling == [*reversed(rising[:-2]), "–", "–"]
    browser.click("[id='sort-config.lr']")
    assert list(dict.fromkeys(column(browser, "lr"))) == ["1e-5", "1e-4", "3e-4", "1e-3"]


@needs_browser
def test_the_keyboard_sorts_and_keeps_its_place(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.evaluate("document.getElementById('sort-key').focus()")
    browser.press("Tab", 9)
    browser.press("Enter", 13)
    assert address(browser) == "#sort=config.method"
    browser.press("Enter", 13)
    assert address(browser) == "#sort=-config.method"
    assert column(browser, "method")[0] == "lora"


@needs_browser
def test_filters_by_values_and_words(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.click("[id='choose-config.method-lora']")
    browser.click("[id='choose-config.lr-1e-3']")
    browser.click("[id='choose-config.lr-1e-4']")
    assert text(browser, "#summary") == "10 of 60 runs"
    assert set(column(browser, "method")) == {"lora"}
    assert set(column(browser, "lr")) == {"1e-3", "1e-4"}
    assert count(browser, "#plot .curve") == 10
    browser.click("#text")
    browser.write("seed=3 lr=0.001")
    assert text(browser, "#summary") == "1 of 60 runs"
    assert browser.evaluate("document.activeElement.id") == "text"
    browser.click("#clear")
    assert text(browser, "#summary") == "60 runs, 2 diverged"
    assert address(browser) == ""


@needs_browser
def test_no_run_is_left(browser: Browser, page: str) -> None:
    browser.open(f"{page}#text=nowhere")
    assert text(browser, "#summary") == "0 of 60 runs"
    assert text(browser, "#body") == "No run has all of this."
    assert text(browser, "#drawn") == "No shown run has a curve of loss."


@needs_browser
def test_an_address_brings_the_view_back(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.click("[id='choose-status-diverged']")
    browser.click("[id='sort-config.seed']")
    browser.click("#log")
    view = browser.evaluate("location.href")
    seen = text(browser, "#body")
    browser.open(view)
    assert text(browser, "#body") == seen
    assert column(browser, "seed") == ["1", "4"]
    assert browser.evaluate("document.getElementById('log').checked")
    assert browser.evaluate("document.getElementById('choose-status-diverged').checked")


@needs_browser
def test_groups_average_over_seeds_without_the_diverged(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.click("#view-groups")
    assert text(browser, "#place") == "12 groups"
    assert count(browser, "#plot .band") == 12
    browser.evaluate("document.getElementById('text').focus()")
    browser.write("method=full lr=1e-3")
    values = [
        row["metrics"]["accuracy"]
        for row in ROWS
        if (row["config"]["method"], row["config"]["lr"], row["status"]) == ("full", 1e-3, "finished")
    ]
    mean = sum(values) / 3
    deviation = (sum((value - mean) ** 2 for value in values) / 2) ** 0.5
    assert column(browser, "accuracy") == [f"{mean:.4f} ± {deviation:.4f}"]
    assert (column(browser, "runs"), column(browser, "diverged")) == (["5"], ["2"])
    browser.click("#clear")
    browser.click("#by-lr")
    assert text(browser, "#place") == "3 groups"
    assert address(browser) == "#view=groups&by=method"


@needs_browser
def test_a_click_on_a_row_shows_where_it_comes_from(browser: Browser, page: str) -> None:
    row = next(row for row in ROWS if row["status"] == "diverged")
    browser.open(f"{page}#status=diverged&sort=key&text={row['key']}")
    browser.click(f"#row-{row['key']} td:nth-child(3)")
    assert text(browser, "#command") == f"jaxft study reproduce 'runs/my study' {row['key']}"
    shown = text(browser, "#run")
    assert row["provenance"]["base"] in shown
    assert row["provenance"]["started"] in shown
    assert "not finite" in shown
    assert f"run={row['key']}" in address(browser)
    browser.press("Escape", 27)
    assert not browser.evaluate("document.getElementById('run').open")
    browser.wait(f"document.activeElement.id === 'open-{row['key']}'")
    assert "run=" not in address(browser)


@needs_browser
def test_the_pointer_names_a_curve_and_selected_runs_stand_alone(browser: Browser, page: str) -> None:
    row = next(row for row in ROWS if row["config"] == {"method": "lora", "rank": 8, "lr": 1e-4, "seed": 2})
    browser.open(f"{page}#text=lora+lr=1e-4")
    browser.click(f"#pick-{row['key']}")
    assert count(browser, "#plot .curve") == 1
    assert not browser.evaluate("document.getElementById('run').open")
    browser.place("#plot svg")
    end = browser.evaluate(
        "(() => { const line = document.querySelector('#plot .line'); const end = line.getPointAtLength(1e9);"
        " const box = line.ownerSVGElement.getBoundingClientRect(); return [box.x + end.x, box.y + end.y]; })()"
    )
    browser.move(end[0] - 3, end[1] + 2)
    hint = text(browser, "#hint")
    assert "at step 300" in hint
    assert "method=lora lr=1e-4 seed=2" in hint
    assert f"{row['curve'][-1]['loss']:.4f}" in hint
    browser.click("#unpick")
    assert count(browser, "#plot .curve") == 5


@needs_browser
@pytest.mark.parametrize("name", ["test/accuracy", "validation/accuracy"])
def test_another_quantity_is_drawn(browser: Browser, page: str, name: str) -> None:
    browser.open(page)
    browser.evaluate(
        f"(() => {{ const box = document.getElementById('quantity'); box.value = {name!r};"
        " box.dispatchEvent(new Event('change')); })()"
    )
    assert f"curve={name}" in address(browser)
    assert count(browser, "#plot .curve") == 58  # the two that diverged were not evaluated


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("view", ["", "#view=groups", f"#run={ROWS[3]['key']}"])
def test_a_phone_never_scrolls_sideways(browser: Browser, page: str, view: str, dark: bool) -> None:
    browser.open(page + view, width=390, height=844, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not browser.evaluate("document.getElementById('filters').open")
    light = browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(251, 250, 247)"
    assert light is not dark


@needs_browser
def test_one_run_is_a_study(browser: Browser, tmp_path: Path) -> None:
    row = made_up("lora", 1e-4, 0)
    del row["validation"], row["curve"]
    write_page([row], tmp_path / "one.html", title="One")
    browser.open((tmp_path / "one.html").as_uri())
    assert text(browser, "#summary") == "1 run"
    assert column(browser, "method") == ["lora"]
    assert browser.evaluate("document.getElementById('curves').hidden")


@needs_browser
def test_many_runs_are_paged(browser: Browser, tmp_path: Path) -> None:
    rows = [made_up("lora", 1e-4, seed) for seed in range(5000)]
    write_page(rows, tmp_path / "many.html", title="Many")
    browser.open((tmp_path / "many.html").as_uri())
    assert text(browser, "#summary") == "5,000 runs"
    assert count(browser, "#body tr") == 50
    assert text(browser, "#drawn").startswith("The first 300 of 5,000 curves")
    browser.click("#text")
    taken = browser.evaluate(
        "(() => { const start = performance.now(); location.hash = '#page=100'; return start; })()"
    )
    browser.wait("document.getElementById('place').textContent.startsWith('4,951–5,000')")
    assert browser.evaluate(f"performance.now() - {taken}") < 5000  # milliseconds, on a busy machine


@needs_browser
def test_nothing_in_a_row_is_read_as_html(browser: Browser, tmp_path: Path) -> None:
    evil = "</script><script>console.error('run')</script><img src=x onerror=console.error(1)>&amp;"
    rows = []
    for seed, name in enumerate((evil, "plain")):
        row = made_up("lora", 1e-4, seed)
        row["config"]["method"] = name
        row["provenance"]["script"] = evil
        rows.append(row)
    path = tmp_path / "evil.html"
    write_page(rows, path, title=evil)
    browser.open(f"{path.as_uri()}#run={rows[0]['key']}")
    assert text(browser, "h1") == evil
    assert evil in column(browser, "method")
    assert evil in text(browser, "#run")
    assert count(browser, "script") == 2


def test_the_numbers_of_a_row_are_kept(tmp_path: Path) -> None:
    row: dict[str, Any] = made_up("lora", 1e-4, 0) | {"metrics": {"accuracy": 0.1 + 0.2, "loss": float("inf")}}
    write_page([row], tmp_path / "page.html", title="One")
    page = (tmp_path / "page.html").read_text()
    study = json.loads(page.split('id="study">')[1].split("</script>")[0])
    assert study["rows"][0]["metrics"] == {"accuracy": 0.1 + 0.2, "loss": None}
    assert study["shared"] | study["rows"][0]["provenance"] == row["provenance"]
    assert study["rows"][0]["curve"]["step"] == [point["step"] for point in row["curve"]]


def test_axes_and_metric_can_be_chosen(tmp_path: Path) -> None:
    write_page(ROWS, tmp_path / "page.html", title="Chosen", axes=("lr",), metric="f1")
    page = (tmp_path / "page.html").read_text()
    assert '"axes":["lr"],"metric":"f1"' in page


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "expected at least one row"),
        (ROWS, {"axes": ["methods"]}, "expected an axis of the study, got 'methods'; nearest: method"),
        (ROWS, {"metric": "acuracy"}, "expected a metric of the study, got 'acuracy'; nearest: accuracy"),
    ],
)
def test_what_cannot_be_shown_is_said(
    tmp_path: Path, rows: list[dict[str, Any]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_page(rows, tmp_path / "page.html", title="Wrong", **options)
    assert list(tmp_path.iterdir()) == []
