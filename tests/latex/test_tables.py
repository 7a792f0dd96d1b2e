"""The LaTeX that `cnnjax compare` writes, set by a real pdflatex: `make test-latex`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
from records import ENV, SHOWCASE, write_study

import cnnjax

# PNGs of the pages are kept where this names a folder, to be looked at.
KEEP = os.environ.get("SCREENSHOTS")
NASTY = {
    "a_b & c% of #1 {x} ~ ^2 $3 \\cmd <4> |5| \"6\"": {
        "changes": {"model.width": 1.5}, "top1": {0: 0.921, 1: 0.924, 2: 0.919},
    },
    "learning_rate.warmup_steps=1000, optimizer.weight_decay=0.0005, augment.0.probability=0.25": {
        "changes": {"model.width": 1.7}, "top1": {0: 0.922, 1: 0.925, 2: 0.92},
        "env": {**ENV, "git": {"commit": "c" * 40, "changed": True}},
    },
    "gemäß Fukushima–Miyake ×2 ≥ 3": {
        "changes": {"model.width": 1.9}, "top1": {0: 0.923, 1: 0.9255, 2: 0.921},
    },
}  # fmt: skip
ARTICLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{lmodern}
\begin{document}
\input{setup}
\bibliographystyle{plain}
\bibliography{references}
\end{document}
"""


def run(*command, cwd):
    found = subprocess.run(command, cwd=cwd, capture_output=True, timeout=120)
    said = (found.stdout + found.stderr).decode("utf8", "replace")
    assert found.returncode == 0, said[-3000:]
    return said


def typeset(folder, name):
    """Compile; gives the log, the pages and their words in reading order."""
    run("pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex", cwd=folder)
    log = (folder / f"{name}.log").read_text(errors="replace")
    pages = int(re.search(r"Pages:\s+(\d+)", run("pdfinfo", f"{name}.pdf", cwd=folder))[1])
    words = run("pdftotext", "-layout", f"{name}.pdf", "-", cwd=folder)
    if KEEP:
        Path(KEEP).mkdir(parents=True, exist_ok=True)
        target = Path(KEEP) / f"{folder.parent.name}_{name}"
        run("pdftoppm", "-r", "110", "-png", f"{name}.pdf", str(target), cwd=folder)
    return log, pages, words


@pytest.fixture(scope="module", params=["showcase", "nasty", "short"])
def report(request, tmp_path_factory):
    arms = {
        "showcase": SHOWCASE,
        "nasty": SHOWCASE | NASTY,
        "short": {"base": {"top1": {0: 0.9}}, "wide": {"changes": {"model.width": 2.0},
                                                       "top1": {0: 0.91}}},
    }  # fmt: skip
    study = write_study(tmp_path_factory.mktemp(request.param) / request.param, arms[request.param])
    cnnjax.compare(study, out=study / "report")
    return study / "report"


def test_the_page_compiles_as_it_is_and_nothing_sticks_out(report):
    log, pages, _ = typeset(report, "table_page")
    assert pages == 1
    assert "Overfull" not in log
    assert "Warning" not in log.replace("LaTeX Font Warning", "")


def test_names_are_set_letter_for_letter(report):
    _, _, words = typeset(report, "table_page")
    said = re.sub(r"\s+", "", words)
    if report.parent.name == "nasty":
        assert "a_b&c%of#1{x}~^2$3\\cmd<4>" in said
        assert "|5|”6”" in said
        # The breaks of a long name stand in its column.
        assert "optimizer.weight_" in said
        assert "gemäßFukushima–Miyake×2≥3" in said
    elif report.parent.name == "showcase":
        assert "width=0.5&50%fewer_maps" in said
        assert "batch_size=256†" in said
        assert "[−0.95,−0.79]<0.001−12.83" in said
    else:
        assert "Oneseedperarm:nointervalisgiven" in said


def test_the_set_up_cites_what_the_references_have(report):
    (report / "article.tex").write_text(ARTICLE)
    run("pdflatex", "-interaction=nonstopmode", "-halt-on-error", "article", cwd=report)
    said = run("bibtex", "article", cwd=report)
    assert "Warning" not in said
    run("pdflatex", "-interaction=nonstopmode", "-halt-on-error", "article", cwd=report)
    log, _, words = typeset(report, "article")
    assert "undefined" not in log
    assert "Overfull" not in log
    assert "Deep residual learning for image recognition" in re.sub(r"\s+", " ", words)
