"""Everything a comparison gives, written into one folder."""

from collections.abc import Iterable
from pathlib import Path

from cnnjax.errors import RunError
from cnnjax.study import bibliography, figures, latex, page, protocol, tables
from cnnjax.study.comparison import Comparison


def folder_of(paths: Iterable[str | Path]) -> Path:
    """Where a report goes by default: into the study, if one was given, else report/ here."""
    given = [Path(path) for path in paths]
    if len(given) == 1 and (given[0] / "study.json").is_file():
        return given[0] / "report"
    return Path("report")


def write(comparison: Comparison, out: str | Path) -> list[Path]:
    """Write tables, figures, set-up, references and report.html into `out`; gives their paths.

    Files of the same names are replaced, others left alone. RunError where `out` is a file or a
    run directory.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise RunError(f"{out}: is a file; the report needs a folder. Give another with --out DIR.")
    if (out / "spec.json").exists() or (out / "study.json").exists():
        raise RunError(f"{out}: is a run or study directory. Give a folder of its own: --out DIR.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out}: cannot be made: {error.strerror}.") from None
    texts = {
        "table.md": tables.markdown(comparison),
        "table.csv": tables.comma_separated(comparison),
        "table.tex": latex.latex(comparison),
        "table_page.tex": latex.PAGE,
        "setup.md": protocol.markdown(comparison),
        "setup.tex": protocol.latex(comparison),
        "references.bib": bibliography.bibtex(run for arm in comparison.arms for run in arm.runs),
    }
    for name, text in texts.items():
        (out / name).write_text(text)
    for stale in figures.NAMES:
        for kind in figures.FORMATS:
            (out / f"{stale}.{kind}").unlink(missing_ok=True)
    drawn = figures.draw(comparison, out)
    (out / "report.html").write_text(page.page(comparison, out, drawn))
    names = [*texts, *(f"{p.stem}.{kind}" for p in drawn for kind in figures.FORMATS)]
    return [out / name for name in ("report.html", *names)]
