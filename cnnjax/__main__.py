"""The command line. A command parses, calls one function and shows what came back.

Nothing heavy is imported before a command runs, so that `cnnjax --help` answers at once. Exit
codes: 0 done, 1 the run failed, 2 bad input, 128 + n stopped by signal n.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

import cnnjax
from cnnjax import machine, terminal
from cnnjax.errors import CnnjaxError, DataError, RunError

app = typer.Typer(
    name="cnnjax",
    help="Convolutional networks in JAX and Flax, from an experiment file to a run directory.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Prepare data sets, and look at them.", no_args_is_help=True)
weights_app = typer.Typer(
    help="Weights of torchvision, timm and Keras, in and out.", no_args_is_help=True
)
app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")
claims_app = typer.Typer(
    help="Claims of the papers, and experiments that can contradict them.", no_args_is_help=True
)
app.add_typer(claims_app, name="claims")

File = Annotated[
    str, Argument(metavar="FILE", help="Experiment: .py, .json, run directory or shipped name.")
]
Set = Annotated[
    list[str] | None, Option("--set", metavar="PATH=VALUE", help="Override, schedule.seed=3.")
]
Bare = Annotated[
    list[str] | None, Option("--set", metavar="KEY=VALUE", help="An option, depth=50.")
]
Json = Annotated[bool, Option("--json", help="Print JSON on stdout and nothing else.")]
DataDir = Annotated[
    str | None, Option("--data-dir", metavar="DIR", help="Where data sets are prepared.")
]
ModelOrFile = Annotated[
    str, Argument(metavar="MODEL_OR_FILE", help="A model's name, or an experiment.")
]
Either = Annotated[
    list[str] | None,
    Option(
        "--set",
        metavar="K=V",
        help="depth=50 for a model's name, model.depth=50 for an experiment.",
    ),
]
Size = Annotated[str | None, Option("--input", metavar="HxWxC", help="Image size, 28x28x1.")]
Classes = Annotated[int | None, Option(min=1, help="Number of classes.")]
RunDir = Annotated[Path, Argument(metavar="RUN", help="A run directory.")]


def _version(asked: bool) -> bool:
    if asked:
        print(f"cnnjax {cnnjax.__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _options(
    version: Annotated[
        bool, Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None: ...


@app.command()
def new(
    name: Annotated[str, Argument(help="The new file's name; .py is added.")],
    like: Annotated[
        str, Option(help="The shipped experiment to start from: cnnjax list experiments.")
    ] = "lenet5_fashion_mnist_12k",
) -> None:
    """Write a commented experiment file to start from."""
    from cnnjax import shipped

    path = shipped.start(name, like)
    terminal.say(f"Wrote {path}. Train it: cnnjax train {path}")


@app.command()
def check(file: File, set_: Set = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Say what an experiment would run, without compiling anything."""
    from cnnjax.training.outline import outline

    spec = cnnjax.load(file, set=_overrides(set_, data_dir))
    terminal.answer(outline(spec, cnnjax.directory_of(file, spec)), json, terminal.outline)


@app.command()
def train(
    file: File,
    set_: Set = None,
    out: Annotated[
        Path | None, Option(metavar="DIR", help="The run directory; by default in runs/.")
    ] = None,
    data_dir: DataDir = None,
    workers: Annotated[int, Option(min=0, help="Processes that read a streamed data set.")] = 0,
    tensorboard: Annotated[bool, Option(help="Write TensorBoard events too.")] = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="No progress.")] = False,
    json: Json = False,
) -> None:
    """Train, or go on with what the run directory holds; a finished run shows its result."""
    from cnnjax.training import mesh

    machine.run_programs_here()
    mesh.join_cluster()
    run = cnnjax.train(
        file, set=_overrides(set_, data_dir), out=out, workers=workers, tensorboard=tensorboard,
        progress=not quiet,
    )  # fmt: skip
    if mesh.is_first():
        terminal.answer(run.to_dict(), json, terminal.run)


@app.command()
def ablate(
    file: File,
    seeds: Annotated[int | None, Option(min=1, help="How many; run i has seed + i.")] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Show arms, costs and how long it would take.")
    ] = False,
    set_: Set = None,
    out: Annotated[
        Path | None, Option(metavar="DIR", help="The study directory; by default in studies/.")
    ] = None,
    processes: Annotated[
        int | None, Option(min=1, help="Runs at once; by default one a core or accelerator.")
    ] = None,
    launcher: Annotated[
        str, Option(help="pool: here and now; slurm: job arrays; print: the commands.")
    ] = "pool",
    slurm: Annotated[
        list[str] | None,
        Option("--slurm", metavar="OPTION", help="An option for sbatch, --slurm=--time=60."),
    ] = None,
    retry: Annotated[bool, Option("--retry", help="Try runs that failed again.")] = False,
    data_dir: DataDir = None,
    quiet: Annotated[bool, Option("--quiet", "-q", help="No progress.")] = False,
    json: Json = False,
) -> None:
    """Train every arm of an experiment's ablation with every seed, or go on with what is there."""
    from cnnjax.study import ablate, commands, preview
    from cnnjax.study import slurm as jobs

    given: dict[str, Any] = {"set": set_ or [], "out": out, "seeds": seeds, "data_dir": data_dir}
    if dry_run:
        found = preview.preview(file, processes=processes, **given)
        terminal.answer(found, json, terminal.preview)
    elif launcher == "print":
        study = ablate.prepare(file, **given)
        terminal.answer(commands.lines(study, ablate.left(study, retry)[1]), json, terminal.lines)
    elif launcher == "slurm":
        study = ablate.prepare(file, **given)
        numbers = jobs.submit(study, ablate.left(study, retry)[1], slurm or [])
        terminal.answer({**study.overview(), "jobs": numbers}, json, terminal.study)
    else:
        study = cnnjax.ablate(
            file, launcher=launcher, processes=processes, retry=retry, progress=not quiet, **given,
        )  # fmt: skip
        terminal.answer(study.overview(), json, terminal.study)


@app.command("eval")
def evaluate(
    run: RunDir,
    split: Annotated[str, Option(help="train, validation, test or a split string.")] = "test",
    json: Json = False,
) -> None:
    """Score a run's reported network on a split."""
    machine.run_programs_here()
    row = cnnjax.evaluate(run, split)
    terminal.answer({"run": str(run), "split": split, **row}, json, terminal.scores)


@app.command()
def predict(
    run: RunDir,
    images: Annotated[list[str], Argument(metavar="IMAGE...", help="Picture files.")],
    top: Annotated[int, Option(min=1, help="How many classes.")] = 5,
    json: Json = False,
) -> None:
    """Name the likeliest classes of pictures.

    A picture is turned to the run's channels, cut to the largest centred part of the input's
    aspect, resized and normalised as the run's data were. Light and dark are not swapped.
    """
    from cnnjax.training import Run
    from cnnjax.training.predict import predict

    terminal.answer(predict(Run(run), images, top=top), json, terminal.predictions)


@app.command()
def summary(
    model: ModelOrFile,
    set_: Either = None,
    input_: Size = None,
    classes: Classes = None,
    batch: Annotated[int, Option(min=1, help="Batch size for the memory of training.")] = 1,
    json: Json = False,
) -> None:  # fmt: skip
    """Count parameters, multiply-adds, activations and receptive field, layer by layer."""
    from cnnjax import catalogue
    from cnnjax.spec import shape_of

    cost = cnnjax.summarize(
        catalogue.model_or_experiment(model, set_ or []), num_classes=classes, batch_size=batch,
        input_shape=shape_of(input_) if input_ else None,
    )  # fmt: skip
    terminal.answer(cost.to_dict(), json, terminal.cost)


@app.command()
def bench(
    model: ModelOrFile,
    set_: Either = None,
    input_: Size = None,
    classes: Classes = None,
    batch: Annotated[
        int | None, Option(min=1, help="Batch size; by default 128, or the experiment's.")
    ] = None,
    native: Annotated[
        bool, Option("--native", help="XLA's own operations in place of this platform's.")
    ] = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Time training and evaluation on random images, and say where the time goes."""
    from cnnjax import catalogue
    from cnnjax.bench import bench
    from cnnjax.spec import shape_of

    machine.run_programs_here()
    source = catalogue.model_or_experiment(model, set_ or [])
    with terminal.working() as report:
        found = bench(
            source, input_shape=shape_of(input_) if input_ else None, num_classes=classes,
            batch_size=batch, native=native, report=report,
        )  # fmt: skip
    terminal.answer(found, json, terminal.speed)


@app.command("list")
def list_(
    kind: Annotated[
        str | None,
        Argument(help="models, datasets, augments, losses, optimizers, learning_rates,"
                 " experiments."),
    ] = None,
    name: Annotated[str | None, Argument(help="One entry, with its options.")] = None,
    long: Annotated[bool, Option("--long", help="Networks: counts and published errors.")] = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Show what there is to choose from."""
    from cnnjax import audit, catalogue

    if long:
        if kind != "models" or name is not None:
            raise typer.BadParameter("it belongs to 'cnnjax list models'", param_hint="--long")
        terminal.answer(audit.models_long(), json, terminal.landmarks)
    elif kind is None:
        terminal.answer(catalogue.contents(), json, terminal.contents)
    elif name is None:
        terminal.answer([e.to_dict() for e in catalogue.entries(kind)], json, terminal.entries)
    else:
        terminal.answer(catalogue.entry(kind, name).to_dict(), json, terminal.entry)


@app.command(name="audit")
def audit_(
    name: Annotated[str, Argument(metavar="MODEL", help="A network, such as resnet50.")],
    json: Json = False,
) -> None:
    """Set a network's counts against papers and libraries, and explain each difference."""
    from cnnjax import audit

    terminal.answer([row.to_dict() for row in audit.audit(name)], json, terminal.audit)


@app.command()
def runs(
    folder: Annotated[Path, Argument(metavar="DIR", help="Folder of runs.")] = Path("runs"),
    json: Json = False,
) -> None:
    """List run directories: how far they are and what they reached."""
    from cnnjax.study.runs import overview

    terminal.answer(overview(folder), json, terminal.runs)


@app.command()
def compare(
    paths: Annotated[
        list[Path],
        Argument(metavar="RUNS_OR_STUDIES", help="Runs, studies or folders of them."),
    ],
    out: Annotated[
        Path | None,
        Option(metavar="DIR", help="For the report; by default in the study, else report/."),
    ] = None,
    measure: Annotated[str, Option(help="top1, top5 or loss.")] = "top1",
    accuracy: Annotated[bool, Option("--accuracy", help="Accuracy in place of error.")] = False,
    base: Annotated[
        str | None, Option(metavar="ARM", help="What the arms are set against.")
    ] = None,
    json: Json = False,
) -> None:
    """Set arms against their base over seeds, and write tables, figures and a page."""
    from cnnjax.study import report, tables

    found = cnnjax.compare(paths, measure=measure, accuracy=accuracy, base=base)
    files = report.write(found, out if out is not None else report.folder_of(paths))
    content = found.to_dict() | {"report": str(files[0]), "files": [str(path) for path in files]}
    shown = tables.table(found)
    below = [tables.caption(found, bold=False), *(f"- {note}" for note in found.notes)]
    terminal.answer(
        content, json, lambda _: terminal.comparison(shown.headings, shown.rows, below,
                                                     content["report"])
    )  # fmt: skip


@app.command()
def diff(
    a: Annotated[Path, Argument(metavar="A", help="A run directory.")],
    b: Annotated[Path, Argument(metavar="B", help="Another.")],
    json: Json = False,
) -> None:
    """Say what differs between two runs: spec, layers, cost, code, versions, data, result."""
    from cnnjax.study.diff import diff

    terminal.answer(diff(a, b), json, terminal.difference)


@app.command()
def plan(
    sd: Annotated[float, Option(help="Standard deviation over seeds; --paired: of differences.")],
    effect: Annotated[float | None, Option(help="The difference to be shown: gives seeds.")] = None,
    seeds: Annotated[int | None, Option(help="Seeds per arm: gives the smallest effect.")] = None,
    power: Annotated[float, Option(help="The chance to show it.")] = 0.8,
    alpha: Annotated[float, Option(help="Two-sided level of the test.")] = 0.05,
    paired: Annotated[bool, Option("--paired", help="Arms are paired by seed.")] = False,
    json: Json = False,
) -> None:
    """Say how many seeds show an effect, or which effect so many seeds show."""
    from cnnjax.study import stats

    found = stats.plan(
        sd, effect=effect, seeds=seeds, power=power, alpha=alpha, paired=paired
    )  # fmt: skip
    terminal.answer(found, json, terminal.power)


@claims_app.command("list")
def list_claims(json: Json = False) -> None:
    """Show the claims there are."""
    from cnnjax.study.claims import report

    terminal.answer(report.listing(), json, terminal.claims)


Claim = Annotated[str, Argument(metavar="ID", help="A claim, as 'cnnjax claims list' has it.")]


@claims_app.command("show")
def show_claim(claim: Claim, json: Json = False) -> None:
    """Say what a claim states, and what runs would decide it."""
    from cnnjax.study.claims import report, run

    terminal.answer(report.described(run.find(claim)), json, terminal.claim)


@claims_app.command("run")
def run_claims(
    claims: Annotated[list[str] | None, Argument(metavar="ID...", help="Which claims.")] = None,
    all_: Annotated[bool, Option("--all", help="Every claim that has the tier.")] = False,
    tier: Annotated[str, Option(help="cpu, gpu or cluster.")] = "cpu",
    out: Annotated[Path, Option(metavar="DIR", help="A folder of studies.")] = Path("claims"),
    set_: Set = None,
    processes: Annotated[
        int | None, Option(min=1, help="Runs at once; by default one a core or accelerator.")
    ] = None,
    retry: Annotated[bool, Option("--retry", help="Try runs that failed again.")] = False,
    data_dir: DataDir = None,
    quiet: Annotated[bool, Option("--quiet", "-q", help="No progress.")] = False,
    json: Json = False,
) -> None:
    """Try claims, or go on with what is there, and give the verdicts."""
    from cnnjax.study.claims import run

    names = run.named(claims or [], all_, tier)
    found = run.run(
        names, out, tier=tier, set=set_ or [], processes=processes, retry=retry,
        progress=not quiet, data_dir=data_dir, say=(lambda _: None) if quiet else terminal.say,
    )  # fmt: skip
    terminal.answer([v.to_dict() for v in found], json, lambda _: _verdicts(found))


@claims_app.command("table")
def table_of_claims(
    folder: Annotated[
        Path, Argument(metavar="DIR", help="What 'cnnjax claims run' has written.")
    ] = Path("claims"),
    json: Json = False,
) -> None:
    """Work the verdicts out anew from run directories, and write them to claims.md."""
    from cnnjax.study.claims import report

    found = report.verdicts(folder)
    (folder / "claims.md").write_text(report.markdown(found))
    terminal.answer([v.to_dict() for v in found], json, lambda _: _verdicts(found))


@claims_app.command("slim")
def slim_claims(
    source: Annotated[Path, Argument(metavar="DIR", help="A folder of studies.")],
    destination: Annotated[Path, Argument(metavar="DEST", help="Where the copy goes.")],
) -> None:
    """Copy studies without checkpoints, pictures and logs: enough for every table."""
    from cnnjax.study.claims import report

    for path in report.slim(source, destination):
        print(path)


def _verdicts(found: Sequence[Any]) -> None:
    from cnnjax.study.claims import report

    rows = [row for verdict in found for row in report.rows(verdict)]
    terminal.verdicts(report.HEADINGS, rows, report.notes(found))


@data_app.command()
def prepare(
    name: Annotated[str, Argument(help="A TFDS name, such as fashion_mnist or cifar10.")],
    source: Annotated[
        str | None, Option("--from", metavar="DIR", help="Where its original files are.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Prepare a TFDS data set from its original files, without TensorFlow or the network."""
    import subprocess

    # In its own process: it puts a stand-in in TensorFlow's place.
    command = [sys.executable, "-m", "cnnjax.data.prepare", name]
    given = {"--from": source, "--data-dir": data_dir}
    options = [word for key, value in given.items() if value for word in (key, value)]
    if code := subprocess.run([*command, *options]).returncode:
        raise typer.Exit(code)
    from cnnjax import data

    # What does not open by its name alone (pictures of many sizes) waits for its experiment.
    with contextlib.suppress(DataError):
        if decoded := data.read_ahead(data.tfds_dataset(name, data_dir)):
            print(f"{name}: {', '.join(decoded)} decoded")


@data_app.command()
def show(
    name: Annotated[str, Argument(metavar="NAME_OR_FILE", help="A data set, or an experiment.")],
    set_: Annotated[
        list[str] | None,
        Option("--set", metavar="K=V", help="""'augment=[{"name": "flip"}]' for a data set."""),
    ] = None,
    out: Annotated[
        Path | None, Option(metavar="FILE", help="The picture; by default NAME.png.")
    ] = None,
    split: Annotated[str | None, Option(help="By default the training split.")] = None,
) -> None:
    """Draw a labelled grid of images, as they are and augmented."""
    from cnnjax import catalogue, data

    dataset, augments = catalogue.data_to_show(name, set_ or [])
    path = out or Path(f"{Path(name).stem}.png")
    print(data.show(dataset, path, augments=augments, split=split))


Model = Annotated[str, Argument(metavar="MODEL", help="A model's name.")]
Layout = Annotated[str, Option(help="Whose names: torchvision, timm or keras.")]
Tensors = Annotated[Path, Argument(metavar="FILE", help="A .safetensors or .npz file.")]
Reference = Annotated[
    Path | None,
    Option(metavar="FILE", help="An .npz of `images` and the `logits` the library gives for them."),
]


@weights_app.command("import")
def import_(
    model: Model,
    file: Tensors,
    layout: Layout = "torchvision",
    set_: Bare = None,
    out: Annotated[
        Path | None, Option(metavar="FILE", help="Write our variables: .safetensors or .npz.")
    ] = None,
    reference: Reference = None,
    json: Json = False,
) -> None:
    """Read another library's weights and certify them: digest, tensors, difference of logits."""
    from cnnjax.spec import bare_options
    from cnnjax.weights import exchange

    options = {"name": model, **bare_options(set_ or [])}
    facts = exchange.take(layout, options, file, out=out, reference=reference)
    terminal.answer(facts, json, terminal.facts)


@weights_app.command()
def export(
    run: RunDir,
    file: Tensors,
    layout: Layout = "torchvision",
    json: Json = False,
) -> None:
    """Write the weights of a run under another library's names."""
    from cnnjax.training import Run
    from cnnjax.weights import exchange

    found = Run(run)
    facts = exchange.give(layout, found.model_dict, found.variables, file)
    terminal.answer(facts, json, terminal.facts)


@weights_app.command()
def verify(
    model: Model,
    file: Tensors,
    layout: Layout = "torchvision",
    set_: Bare = None,
    reference: Reference = None,
    tolerance: Annotated[float, Option(help="Largest relative L2 difference of logits.")] = 1e-4,
    json: Json = False,
) -> None:
    """Check that weights load, save back bit for bit and give the library's logits."""
    from cnnjax.spec import bare_options
    from cnnjax.weights import exchange

    options = {"name": model, **bare_options(set_ or [])}
    facts = exchange.verify(layout, options, file, reference=reference, tolerance=tolerance)
    terminal.answer(facts, json, terminal.facts)
    raise typer.Exit(0 if facts["verified"] else 1)


def _overrides(given: list[str] | None, data_dir: str | None) -> list[str]:
    return [*(given or []), *([f"dataset.data_dir={data_dir!r}"] if data_dir else [])]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code; what a user caused is said without a traceback."""
    try:
        if arguments is None:  # this process is the command, and not somebody's program or test
            machine.take_memory()
            machine.collect_rarely()
        machine.set_up()
        app(list(arguments) if arguments is not None else None, prog_name="cnnjax")
    except CnnjaxError as error:
        if os.environ.get("CNNJAX_TRACEBACK"):
            raise
        terminal.complain(error)
        return _code(error)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    return 0


def _code(error: CnnjaxError) -> int:
    number: Any = getattr(error, "signal", None)
    if number is not None:
        return 128 + int(number)
    return 1 if isinstance(error, RunError) else 2


if __name__ == "__main__":
    sys.exit(main())
