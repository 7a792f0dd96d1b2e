"""LaTeX: a table to \\input, the same on a page of its own, and plain text made safe for it."""

import re

from cnnjax.study.comparison import Comparison
from cnnjax.study.tables import caption, table

_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"$<$", ">": r"$>$", "|": r"$|$", '"': "''", "−": r"$-$", "±": r"$\pm$",
    "×": r"$\times$", "†": r"\textsuperscript{\textdagger}", "–": "--", "≥": r"$\geq$",
}  # fmt: skip
_BREAKS = re.compile(r"(?<=[_=/])(?=\S)|(?<=[.,:])(?=[^\W\d])")
# A first column of names longer than this, in characters, may break its lines.
LONG = 34

PAGE = r"""\documentclass[10pt]{article}
\usepackage[T1]{fontenc}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\usepackage[utf8]{inputenc}
\usepackage[a4paper,landscape,margin=18mm]{geometry}
\usepackage{array}
\usepackage{booktabs}
\pagestyle{empty}
\begin{document}
\input{table}
\end{document}
"""


def escape(text: str) -> str:
    """`text` as LaTeX sets it letter for letter; a sign that its fonts lack becomes "?"."""
    return "".join(_ESCAPES.get(c) or (c if c.isascii() or _latin(c) else "?") for c in text)


def _latin(letter: str) -> bool:
    """Whether T1-encoded fonts have it."""
    return 0xC0 <= ord(letter) <= 0x17F and letter.isalpha()


def breakable(text: str) -> str:
    """Escaped, with places to break long names and paths at."""
    return r"\allowbreak{}".join(escape(part) for part in _BREAKS.split(text))


def latex(comparison: Comparison) -> str:
    """A floating booktabs table with its caption and notes; it needs booktabs and array."""
    found = table(comparison)
    long = max(len(cells[0]) for cells in found.rows) > LONG
    first = r">{\raggedright\arraybackslash}p{55mm}" if long else "l"
    head = " & ".join(_heading(name) for name in found.headings)
    lines = []
    for number, cells in enumerate(found.rows):
        name, *numbers = cells
        shown = [_cell(text) for text in numbers]
        if number == found.bold:
            at = found.headings.index(comparison.label) - 1
            shown[at] = rf"\textbf{{{shown[at]}}}"
        lines.append(" & ".join([breakable(name) if long else escape(name), *shown]) + r" \\")
    said = r"$d_z$".join(breakable(part) for part in re.split(r"\bd_z\b", caption(comparison)))
    notes = "".join(rf"\par {breakable(note)}" + "\n" for note in comparison.notes)
    return "\n".join([
        r"% Needs \usepackage{booktabs} and \usepackage{array}.",
        r"\begin{table}[htbp]",
        r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{said}}}\vspace{{4pt}}",
        rf"\begin{{tabular}}{{@{{}}{first}{'r' * (len(found.headings) - 1)}@{{}}}}",
        r"\toprule",
        head + r" \\",
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
        *([rf"\begin{{flushleft}}\scriptsize {notes}\end{{flushleft}}"] if notes else []),
        r"\end{table}",
        "",
    ])  # fmt: skip


def _heading(name: str) -> str:
    return {"p": "$p$", "n": "$n$", "d_z": "$d_z$"}.get(name, escape(name))


def _cell(text: str) -> str:
    mark = text[len(text.rstrip("*")) :]
    plain = escape(text.rstrip("*"))
    return rf"{plain}\textsuperscript{{{mark}}}" if mark else plain
