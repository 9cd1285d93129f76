"""Step time, throughput, compiled operations and memory of each method: python bench/run.py [SECTION] [--no-write].

Every case runs in a process of its own. The tables are printed and written to docs/benchmarks.md; with a section,
"studies", "methods" or "distil", that one alone is measured and replaced.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "docs" / "benchmarks.md"
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
CASES: list[tuple[str, str, dict[str, str]]] = [
    ("full", "full", HUGE_PAGES),
    ("top two", "top", HUGE_PAGES),
    ("LoRA", "lora", HUGE_PAGES),
    ("head", "head", HUGE_PAGES),
    ("full, small pages", "full", {}),
]
HEADINGS = (
    "method",
    "step ms",
    "GFLOP/s",
    "product",
    "ratio",
    "FLOPs",
    "peak MB",
    "traces",
)
INTRODUCTION = """# Benchmarks

`make bench` measures MiniLM (6 layers of 384) on a batch of 32 × 64 tokens in float32 with AdamW and dropout, each
case in a process of its own: the median of 20 steps after three of warm-up. Every case but the full one trains the
head beside the top two layers, or beside LoRA of rank 8 on query and value, or alone. "GFLOP/s" counts the matrix
products a step needs in theory (`bench/theory.py`); "product" is the rate of a plain 2048 × 2048 matrix product,
measured eight times after every step of the same run; "ratio" is the one over the other. "FLOPs" is the compiler's own
count, which includes everything that is no matrix product, over the theoretical one. Peak memory is the process's.

On Linux a step's temporary arrays come from the system afresh each time, and touching them page by page takes a
noticeable part of a step. Large pages avoid most of that: the cases run with `GLIBC_TUNABLES=glibc.malloc.hugetlb=1`
in the environment, the last one without. Set it before you start Python to train on a CPU at the same speed.
"""
LANGUAGE = """
## Language models

SmolLM2 (30 layers of 576, 135 M parameters) in float32, each line in a process of its own (`bench/language.py`). A step
trains LoRA of rank 8 on query and value on 4 × 128 tokens; the columns are those above. Decoding is greedy, 64 new
tokens after a prompt of 16, the median of five calls after the first, which compiles. Packing is of the movie
reviews' 8,440 training sentences into rows of 256 tokens.
"""
STUDIES_HEADING = "## Studies"
STUDIES = """
Thirty-two runs (8 seeds × 4 learning rates) of 200 steps of 64 rows on scikit-learn's digits, of a fully connected net
(64–32–10) and a convolutional one (two convolutions of stride two, 16 and 32 channels), evaluation included: as one
program called run by run, in as many threads as there are cores ("map"), with all runs side by side in one call
("vmap"), with as many of them side by side as give each thread one call ("parts"), one by one through `ft.fit`, and
one by one in a bare loop over the same compiled update. Medians of five rounds in turns, without compiling; the
columns after them have the seconds of tracing and compiling each (of a loop: what its first run takes beyond the
second), and the ratios with both sides' compiling in them, once each. "auto" takes "map" on a CPU: it needs the memory
of one run a thread, and gives a run the same bits in whatever company. Then MiniLM on film sentences of at most 32
tokens without dropout (`bench/study.py`): epochs are all training batches of 32, their cutting included, without
evaluation, the medians of three in turns. `python bench/run.py studies` measures this section alone.
"""
METHODS_HEADING = "## Methods"
METHODS = """
MiniLM on the batch above with large pages; every method trains the head beside it, each in a process of its own
(`bench/methods.py`), where its steps and those of plain LoRA (rank 8 on query and value) take turns: the medians of 20
after three of warm-up, and their ratio. int8 and nf4 hold every kernel of the encoder. FLOPs are the compiler's own
count of a step; "temporary" are the bytes a compiled step needs beside its arguments, "frozen" those of what does not
learn, the embeddings (48 MB) among them. `python bench/run.py methods` measures this section alone.
"""
DISTIL_HEADING = "## Teachers and prompts"
DISTIL = """
A student of three of MiniLM's layers on a batch of 32 × 64 tokens, the cutting of batches included: its step with
cross-entropy alone, with distillation of predictions and last states that its teacher said before
(`ft.distil.remember`), and with the teacher in the step. Then SmolLM2's scores of four labels of one token behind 8
prompts of about 100 tokens, which are read once for all labels, beside one label, and beside a pass over prompt and
label for each (`bench/distil.py`). Medians, the cases taking turns. `python bench/run.py distil` measures this section
alone.
"""


def run(module: str, case: str, environment: dict[str, str]) -> dict[str, Any]:
    settings = {**os.environ, "JAX_PLATFORMS": "cpu", **environment}
    command = [sys.executable, "-m", f"bench.{module}", case]
    done = subprocess.run(command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def row(name: str, figures: dict[str, Any]) -> tuple[str, ...]:
    return (
        name,
        f"{figures['seconds'] * 1e3:.0f}",
        f"{figures['gflops']:.0f}",
        f"{figures['product_gflops']:.0f}",
        f"{figures['of_product']:.2f}",
        f"{figures['compiled_over_theory']:.3f}",
        f"{figures['peak_bytes'] / 1e6:.0f}",
        f"{figures['traces']}",
    )


def machine() -> str:
    names = ("jax", "jaxlib", "flax", "optax", "quax", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    load = os.getloadavg()[0]
    return (
        f"Measured on {platform.system()} {platform.machine()} with {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, {versions}; load average at the start {load:.1f}."
    )


def decoding(figures: dict[str, Any]) -> list[str]:
    """A line for each number of rows."""
    return [
        f"- {count} row{'s' if count > 1 else ''}: {figures[f'tokens_per_second_{count}']:.0f} tokens a second, "
        f"first call {figures[f'first_call_seconds_{count}']:.1f} s, {figures[f'compiled_later_{count}']} compilations "
        "after it"
        for count in (1, 8)
    ] + [f"- a matrix product ran at {figures['product_gflops']:.0f} GFLOP/s in that process"]


def studies() -> list[str]:
    """The section about stacked runs and kept activations."""
    where = machine()
    lines = [
        "| network | threads | `ft.fit` s | bare / fit | map / fit | vmap / fit | parts / fit | map / bare | compiling "
        "fit, bare, map, vmap, parts s | compiled: map / fit | vmap / fit | parts / fit |"
    ]
    lines.append("|---" + "|--:" * 11 + "|")
    for name in ("dense", "convolution"):
        f = run("study", name, {})
        ratios = ("bare_of_fit", "map_of_fit", "vmap_of_fit", "parts_of_fit", "map_of_bare")
        figures = [str(f["threads"]), f"{f['fit_seconds']:.2f}", *(f"{f[key]:.3f}" for key in ratios)]
        figures.append(
            ", ".join(f"{f[f'{way}_compile_seconds']:.1f}" for way in ("fit", "bare", "map", "vmap", "parts"))
        )
        figures += [f"{f[f'{kind}_of_fit_compiled']:.3f}" for kind in ("map", "vmap", "parts")]
        lines.append("| " + " | ".join((name, *figures)) + " |")
    probes, kept = run("study", "probes", HUGE_PAGES), run("study", "prefix", HUGE_PAGES)
    return [
        STUDIES_HEADING,
        STUDIES,
        *lines,
        "",
        f"- 16 linear probes, two epochs each, evaluated, compiling included: {probes['of_pass']:.2f} of the time of "
        f"one pass of the encoder over the rows ({probes['pass_seconds']:.0f} s); the probes themselves "
        f"{probes['probes_of_pass']:.3f}",
        f"- fine-tuning the top two layers from kept activations: {kept['of_whole']:.2f} of the time of an epoch of "
        f"the whole model ({kept['whole_seconds']:.0f} s) in every epoch after the first; the first, with keeping them "
        f"({kept['keeping_seconds']:.0f} s) and both sides' compiling ({kept['compile_seconds']:.1f} and "
        f"{kept['whole_compile_seconds']:.1f} s), {kept['first_of_whole']:.2f}; {kept['saved']:.1%} of the forward "
        "pass is kept",
        "",
        where,
        "",
    ]


def methods() -> list[str]:
    """The section with a line for each method of bench/methods.py."""
    where = machine()
    lines = ["| method | trained | step ms | of LoRA | GFLOPs | of LoRA | temporary MB | frozen MB |"]
    lines.append("|---" + "|--:" * 7 + "|")
    for name in run("methods", "names", {})["names"]:
        print(f"measuring {name} …", file=sys.stderr)
        f = run("methods", name, HUGE_PAGES)
        figures = [f"{f['trained']:,}", f"{f['seconds'] * 1e3:.0f}", f"{f['of_lora']:.2f}"]
        figures += [f"{f['flops'] / 1e9:.1f}", f"{f['flops_of_lora']:.3f}"]
        figures += [f"{f['temporary_bytes'] / 1e6:.0f}", f"{f['frozen_bytes'] / 1e6:.1f}"]
        lines.append("| " + " | ".join((name, *figures)) + " |")
        print(lines[-1], file=sys.stderr)
    return [METHODS_HEADING, METHODS, *lines, "", where, ""]


def distil() -> list[str]:
    """The section about what a teacher said before, and labels that share a prompt."""
    where = machine()
    told, scored = run("distil", "teacher", HUGE_PAGES), run("distil", "labels", HUGE_PAGES)
    return [
        DISTIL_HEADING,
        DISTIL,
        f"- a step with what the teacher said before: {told['remembered_of_alone']:.2f} of the student's own step "
        f"({told['seconds'] * 1e3:.0f} ms); with the teacher in it: {told['live_of_alone']:.2f}",
        f"- scores of four labels: {scored['four_of_one']:.2f} of the time of one ({scored['seconds']:.2f} s); four "
        f"passes take {scored['passes_of_four']:.2f} of the time of the four scores",
        "",
        where,
        "",
    ]


def replace_section(page: str, section: list[str]) -> str:
    """The page with another section of the same heading, or with one more at its end."""
    before, heading, after = page.partition(section[0] + "\n")
    following = after.find("\n## ") if heading else -1
    rest = after[following:] if following >= 0 else ""
    return before.rstrip() + "\n\n" + "\n".join(section) + rest


def markdown(rows: list[tuple[str, ...]]) -> list[str]:
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---" + "|--:" * (len(HEADINGS) - 1) + "|"]
    return lines + ["| " + " | ".join(cells) + " |" for cells in rows]


def write(page: str) -> None:
    if "--no-write" not in sys.argv[1:]:
        PLACE.write_text(page, encoding="utf-8")
        print(f"wrote {PLACE.relative_to(ROOT)}")


def main() -> None:
    sections = {"studies": studies, "methods": methods, "distil": distil}
    if chosen := [word for word in sys.argv[1:] if word in sections]:
        page = PLACE.read_text(encoding="utf-8")
        for name in chosen:
            section = sections[name]()
            print("\n".join(section))
            page = replace_section(page, section)
        return write(page)
    where = machine()
    rows = []
    for name, method, environment in CASES:
        print(f"measuring {name} …", file=sys.stderr)
        rows.append(row(name, run("case", method, environment)))
    print("measuring SmolLM2 …", file=sys.stderr)
    lora = [row("SmolLM2, LoRA", run("language", "lora", HUGE_PAGES))]
    packed = run("language", "packing", {})
    lines = [
        *("### Training step", "", *markdown(lora), ""),
        *("### Greedy decoding", "", *decoding(run("language", "decode", HUGE_PAGES)), ""),
        *("### Packing", "", f"- {packed['fill_rate']:.1%} of the tokens in {packed['rows']} rows are no padding"),
    ]
    page = "\n".join([INTRODUCTION, *markdown(rows), LANGUAGE, *lines, "", where, ""])
    for measured in sections.values():
        page = replace_section(page, measured())
    print(page)
    write(page)


if __name__ == "__main__":
    main()
