"""The commands of ``aevb``. Everything heavy is imported inside them, so that ``--help`` is quick.

Exit codes: 0 done, 1 a mistake in the data or parameters, 2 in the usage, 130 interrupted.
"""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from aevb.errors import TrainingDiverged, choose

_CHUNK = 512  # cases scored between two moves of the progress bar
_FORMATS = ".csv, .tsv, .parquet, .feather, .xlsx, .npy, .npz, .idx or .idx.gz"
# The names that VAE knows, written out because looking them up would import all of it.
_PRIORS = "normal, learned-normal, mixture, vamp or flow"
_POSTERIORS = (
    "normal, full-normal, low-rank-normal, mixture, iaf, coupling, laplace, student-t, cauchy, "
    "logistic, gumbel, elliptical, log-normal, gamma, exponential, weibull, rayleigh, chi-squared, "
    "erlang, f, gompertz, pareto, reciprocal, beta, uniform, triangular or dirichlet"
)
_LIKELIHOODS = (
    "auto, bernoulli, continuous-bernoulli, discretised-logistic, gaussian, student-t, laplace, "
    "log-normal, gamma, beta, poisson, negative-binomial, zero-inflated-negative-binomial, "
    "beta-binomial, categorical or ordinal"
)
_ESTIMATORS = "auto, A, B, stl, iw, dreg, score or vimco"


class _Commands(TyperGroup):
    """Turns what users can get wrong into one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except BrokenPipeError:
                raise
            except (ValueError, TypeError, OSError, ImportError, TrainingDiverged) as error:
                if isinstance(error, TypeError) and not str(error).startswith("Expected "):
                    raise  # not a mistake of the user's
                _say("Error:", typer.colors.RED, str(error))
                raise typer.Exit(1) from error
            except KeyboardInterrupt as error:
                _say("Interrupted.", typer.colors.YELLOW)
                raise typer.Exit(130) from error


def _say(what: str, colour: str, message: str = "") -> None:
    typer.echo(f"{typer.style(what, fg=colour, bold=True)} {message}".rstrip(), err=True)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _say("Warning:", typer.colors.YELLOW, str(message))


def _examples(*lines: str) -> str:
    return "\n\n".join(["[bold]Examples[/bold]", *(f"  [cyan]{line}[/cyan]" for line in lines)])


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_examples(
        "aevb demo",
        "aevb fit data.csv --latent-dim 2 -o model.aevb",
        "aevb encode model.aevb data.csv -o latent.csv",
        "aevb sample model.aevb -n 64 -o new.npy",
    ),
)

Model = Annotated[
    Path, typer.Argument(help="Model file, from [bold]aevb fit[/bold].", show_default=False)
]
Data = Annotated[
    Path,
    typer.Argument(
        help=f"Cases, one per row: {_FORMATS}; to fit, encode or reconstruct also .zarr, or a "
        "folder of .parquet files.",
        show_default=False,
    ),
]
ModelOut = Annotated[
    Path, typer.Option("--output", "-o", help="Model file to write.", show_default=False)
]
Out = Annotated[
    Path,
    typer.Option("--output", "-o", help=f"File to write: {_FORMATS}.", show_default=False),
]
Epochs = Annotated[
    int | None, typer.Option(help="Passes over the data.", show_default="by their size")
]
Kinds = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        help="Likelihood of a column, as age=gamma; may be given several times.",
        show_default="by rule",
    ),
]
Draws = Annotated[int, typer.Option(help="Draws of z for each case.")]
Train = Annotated[
    Path | None,
    typer.Option(help="Cases that the model was fitted to, to compare with.", show_default="none"),
]
Seed = Annotated[int, typer.Option(help="Seed of the draws.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing output file.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Repository = Annotated[
    str, typer.Argument(help="Repository on the Hugging Face Hub: user/name.", show_default=False)
]
Revision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of the repository.", show_default="main")
]


def _version(wanted: bool) -> None:
    if wanted:
        from aevb import __version__

        typer.echo(f"aevb {__version__}")
        raise typer.Exit()


@app.callback()
def _aevb(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Auto-Encoding Variational Bayes: fit a variational auto-encoder to your data, and use it."""


@app.command(
    epilog=_examples(
        "aevb fit data.csv -o model.aevb",
        "aevb fit people.csv --kind income=gamma --kind age=gaussian -o model.aevb",
        "aevb fit images.idx.gz --latent-dim 20 --epochs 50 --seed 1 -o model.aevb",
        "aevb fit data.parquet --hidden 200,100 --validation-fraction 0.1 --patience 20 "
        "-o model.aevb",
        "aevb fit data.csv --posterior iaf --prior vamp --estimator iw --n-draws 5 -o model.aevb",
        "srun aevb fit data.npy --distributed --checkpoint kept -o model.aevb",
    )
)
def fit(
    data: Data,
    output: ModelOut,
    latent_dim: Annotated[int, typer.Option(help="Number of latent dimensions.")] = 2,
    likelihood: Annotated[
        str, typer.Option(help=f"Decoder p(x|z), of all columns: {_LIKELIHOODS}.")
    ] = "auto",
    kind: Kinds = None,
    unseen: Annotated[
        str, typer.Option(help="What a new category is, in later data: error, or missing.")
    ] = "error",
    prior: Annotated[str, typer.Option(help=f"p(z): {_PRIORS}.")] = "normal",
    posterior: Annotated[str, typer.Option(help=f"q(z|x): {_POSTERIORS}.")] = "normal",
    architecture: Annotated[
        str, typer.Option(help="Both networks: dense, or conv for pictures.")
    ] = "dense",
    hidden: Annotated[
        str,
        typer.Option(help="Units of the encoder's hidden layers, or auto; '' makes it linear."),
    ] = "auto",
    activation: Annotated[str, typer.Option(help="Of the hidden layers: gelu, tanh, ...")] = "gelu",
    init: Annotated[
        str, typer.Option(help="Start at factor analysis: linear; or at random weights: random.")
    ] = "linear",
    epochs: Epochs = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Step size.", show_default="the optimizer's")
    ] = None,
    optimizer: Annotated[str, typer.Option(help="An Optax optimizer.")] = "adamax",
    batch_size: Annotated[int, typer.Option(help="Cases per step.")] = 100,
    validation_fraction: Annotated[
        float, typer.Option(help="Share of the cases to hold out and compute the ELBO of.")
    ] = 0.0,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop after so many epochs without gain, and keep the best epoch.",
            show_default="no; 10 with --tol",
        ),
    ] = None,
    tol: Annotated[
        float | None,
        typer.Option(
            help="Rise in nats to exceed for a gain; stops early too.",
            show_default="0 with --patience",
        ),
    ] = None,
    tol_params: Annotated[
        float | None,
        typer.Option(
            help="Stop when an epoch moves the parameters by a smaller share of their size.",
            show_default="no",
        ),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(help="Stop after this many seconds, at an epoch's end.", show_default="no"),
    ] = None,
    n_init: Annotated[int, typer.Option(help="Number of starts; the best is kept.")] = 1,
    clip_norm: Annotated[
        str, typer.Option(help="Largest norm of a gradient: a number, auto or none.")
    ] = "auto",
    devices: Annotated[
        str | None,
        typer.Option(
            help="Devices that share every batch: all, or a number.",
            show_default="one; all with --distributed",
        ),
    ] = None,
    distributed: Annotated[
        bool,
        typer.Option(
            "--distributed",
            help="Train with the other processes of a run under SLURM, MPI, Kubernetes or on TPUs.",
        ),
    ] = False,
    coordinator: Annotated[
        str | None,
        typer.Option(help="With --distributed: host:port of process 0.", show_default="found"),
    ] = None,
    num_processes: Annotated[
        int | None,
        typer.Option(help="With --distributed: how many there are.", show_default="found"),
    ] = None,
    process_id: Annotated[
        int | None,
        typer.Option(
            help="With --distributed: which this is, from 0. It writes.", show_default="found"
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Directory to keep the training in: the same command goes on if it was killed.",
            show_default="no",
        ),
    ] = None,
    weight_prior: Annotated[
        float | None,
        typer.Option(help="Standard deviation of a normal prior over weights.", show_default="no"),
    ] = None,
    kl_weight: Annotated[
        float, typer.Option(help="Factor before the KL; other than 1, the goal is not a bound.")
    ] = 1.0,
    free_bits: Annotated[
        float, typer.Option(help="Nats of KL that each latent dimension has free.")
    ] = 0.0,
    estimator: Annotated[
        str, typer.Option(help=f"Estimator of the bound: {_ESTIMATORS}.")
    ] = "auto",
    n_draws: Annotated[int, typer.Option(help="Draws of z per case and step.")] = 1,
    aggregate_posterior: Annotated[
        str | None,
        typer.Option(
            help="Density to fit to the codes at the end, for sample --from posterior: mixture or "
            "flow.",
            show_default="no",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed and data give the same model.")] = 0,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Fit a variational auto-encoder to the rows of a file.

    Says what was fitted, how well, and which latent dimensions are inactive.
    Ctrl-C ends the training after the epoch under way, whose model is kept; twice, at once.
    """
    from aevb.data.files import check_target
    from aevb.data.sources import opened

    layers = _layers(hidden)
    number = _number_of(devices)
    if aggregate_posterior is not None:
        choose(aggregate_posterior, {"mixture": None, "flow": None}, "--aggregate-posterior")
    check_target(output, overwrite=force)
    rows = opened(data)
    is_first = _join(distributed, coordinator, num_processes, process_id)
    if not is_first:  # the first one speaks and writes for all
        quiet = True
        warnings.simplefilter("ignore")

    from aevb.cli import report
    from aevb.vae import VAE

    vae = VAE(
        latent_dim,
        likelihood=_kinds(kind, likelihood),
        unseen=unseen,
        prior=prior,
        posterior=posterior,
        architecture=architecture,
        hidden=layers,
        activation=activation,
        init=init,
        epochs="auto" if epochs is None else epochs,
        learning_rate="auto" if learning_rate is None else learning_rate,
        optimizer=optimizer,
        batch_size=batch_size,
        validation_fraction=validation_fraction,
        patience=patience,
        tol=tol,
        tol_params=tol_params,
        time_limit=time_limit,
        n_init=n_init,
        clip_norm=_norm(clip_norm),
        devices="all" if number is None and distributed else number,
        checkpoint=checkpoint,
        weight_prior=weight_prior,
        kl_weight=kl_weight,
        free_bits=free_bits,
        estimator=estimator,
        n_draws=n_draws,
        random_state=seed,
        verbose=False if quiet else "auto",
    )
    try:
        vae.fit(rows)
    except (KeyboardInterrupt, TrainingDiverged, ConnectionError) as error:
        goes_on = isinstance(error, ConnectionError) and checkpoint is not None
        if hasattr(vae, "model_") and is_first and not goes_on:
            vae.save(output)
            _say("Kept:", typer.colors.YELLOW, f"epoch {vae.n_epochs_}'s model, in {output}")
        raise
    if is_first:
        if aggregate_posterior is not None:
            vae.fit_aggregate_posterior(rows, aggregate_posterior)
        vae.save(output)
    if not quiet:
        report.show_fit(vae, rows)
        typer.echo(f"The model is in {output}")


@app.command(
    epilog=_examples("aevb inspect table.csv", "aevb inspect table.csv --kind income=gamma")
)
def inspect(data: Data, kind: Kinds = None) -> None:
    """Say what a table is understood to be, and which likelihood each column would have."""
    from aevb.cli import report
    from aevb.data.files import read_rows

    report.show_data(data, read_rows(data), _kinds(kind))


@app.command(epilog=_examples("aevb encode model.aevb data.csv -o latent.csv"))
def encode(model: Model, data: Data, output: Out, force: Force = False) -> None:
    """Map cases to their latent representation, the mean of q(z|x)."""
    vae, _ = _prepare(model, None, output, force)
    vae.stream(data, output, overwrite=force)


@app.command(epilog=_examples("aevb reconstruct model.aevb data.csv -o out.npy"))
def reconstruct(model: Model, data: Data, output: Out, force: Force = False) -> None:
    """Map cases to their nearest representation, the mean of p(x|z) at the mean of q(z|x)."""
    vae, _ = _prepare(model, None, output, force)
    vae.stream(data, output, "reconstruct", overwrite=force)


@app.command(
    epilog=_examples(
        "aevb impute model.aevb table.csv -o filled.csv",
        "aevb impute model.aevb table.csv -n 5 -o filled.csv",
    )
)
def impute(
    model: Model,
    data: Data,
    output: Out,
    number: Annotated[
        int | None,
        typer.Option("--number", "-n", help="Draw so many tables, as filled-1.csv, ..."),
    ] = None,
    n_draws: Draws = 1000,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Fill missing cells by what the others let expect; the others stay as they are."""
    from aevb.data.files import check_rows_target, write_rows

    outputs = [output]
    if number is not None:
        numbered = (f"{output.stem}-{j + 1}{output.suffix}" for j in range(number))
        outputs = [output.with_name(name) for name in numbered]
    for path in outputs:
        check_rows_target(path, overwrite=force)
    vae, rows = _prepare(model, data, None, force)
    filled = vae.impute(rows, n_draws, n_imputations=number, random_state=seed)
    for path, table in zip(outputs, [filled] if number is None else filled, strict=True):
        write_rows(path, table, overwrite=force)


@app.command(epilog=_examples("aevb surprise model.aevb table.csv -o nats.csv"))
def surprise(
    model: Model,
    data: Data,
    output: Out,
    n_draws: Draws = 1000,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Write how surprising each cell is, given the others: -log p, nats."""
    from aevb.data.files import write_rows

    vae, rows = _prepare(model, data, output, force)
    write_rows(output, vae.surprise(rows, n_draws, random_state=seed), overwrite=force)


@app.command(
    epilog=_examples(
        "aevb sample model.aevb -n 64 -o new.npy",
        "aevb sample model.aevb -n 64 --mean -o new.csv",
        "aevb sample model.aevb -n 64 --given city=Ulm -o new.csv",
    )
)
def sample(
    model: Model,
    output: Out,
    number: Annotated[int, typer.Option("--number", "-n", help="Number of new cases.")] = 1,
    seed: Annotated[int | None, typer.Option(help="Seed.", show_default="the model's")] = None,
    from_: Annotated[
        str, typer.Option("--from", help="What z is drawn from: prior, or posterior: see fit.")
    ] = "prior",
    mean: Annotated[
        bool, typer.Option("--mean", help="Write means of p(x|z) instead of draws from it.")
    ] = False,
    given: Annotated[
        list[str] | None,
        typer.Option(
            help="Value of a column, as city=Ulm; may be given several times.", show_default="none"
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Generate new cases: z ~ p(z), then x ~ p(x|z)."""
    from aevb.data.files import write_rows

    vae, _ = _prepare(model, None, output, force)
    fixed = _given(vae, _pairs(given, "--given"))
    new = vae.sample(number, seed, from_=from_, mean=mean, given=fixed)
    write_rows(output, new, overwrite=force)


@app.command(
    epilog=_examples(
        "aevb evaluate model.aevb test.csv",
        "aevb evaluate model.aevb test.csv --n-draws 5000 -o scores.csv",
    )
)
def evaluate(
    model: Model,
    data: Data,
    n_draws: Annotated[int, typer.Option(help="Importance samples per case.")] = 1000,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File for the two numbers of each case."),
    ] = None,
    force: Force = False,
) -> None:
    """Say how likely the model finds some cases: ELBO and importance-sampled log-likelihood."""
    vae, rows = _prepare(model, data, output, force)

    import numpy as np
    from rich.console import Console
    from rich.progress import track

    from aevb.cli import report
    from aevb.data.files import write_rows

    stderr = Console(stderr=True)
    elbo, log_likelihood = [], []
    starts = range(0, len(rows), _CHUNK)
    for start in track(
        starts, "Scoring", console=stderr, transient=True, disable=not stderr.is_terminal
    ):
        some = rows[start : start + _CHUNK]
        elbo.append(vae.elbo(some))
        log_likelihood.append(vae.log_likelihood(some, n_draws))
    scores = {
        "elbo": np.concatenate(elbo),
        "log_likelihood": np.concatenate(log_likelihood),
    }
    report.show_scores(vae, rows, {f"{len(rows)} cases": scores}, n_draws)
    if output is not None:
        table = np.column_stack(list(scores.values()))
        write_rows(output, table, list(scores), overwrite=force)
        typer.echo(f"The numbers of each case are in {output}")


@app.command(
    epilog=_examples(
        "aevb diagnose model.aevb test.csv",
        "aevb diagnose model.aevb test.csv --train train.csv",
    )
)
def diagnose(
    model: Model,
    data: Data,
    train: Train = None,
    n_draws: Annotated[int, typer.Option(help="Importance samples per case.")] = 100,
    seed: Seed = 0,
) -> None:
    """Say what became of the fit: the bound by term, latent, column and row, and what to try."""
    from aevb.data.files import read_rows

    vae, rows = _prepare(model, data, None, False)
    seen = None if train is None else read_rows(train)
    typer.echo(str(vae.diagnose(rows, train=seen, n_draws=n_draws, random_state=seed)))


@app.command(
    epilog=_examples(
        "aevb serve model.aevb",
        "aevb serve models --port 9000 --max-rows 1000",
        "AEVB_API_KEY=... aevb serve model.aevb --host 0.0.0.0",
    )
)
def serve(
    models: Annotated[
        Path,
        typer.Argument(
            help="Model file, or a folder of files that end in .aevb.", show_default=False
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.", min=0, max=65535)] = 8000,
    max_rows: Annotated[int, typer.Option(help="Largest number of rows of a request.")] = 10_000,
    max_body: Annotated[int, typer.Option(help="Largest body of a request, bytes.")] = 2**24,
    queue: Annotated[int, typer.Option(help="Requests inside at one time; more get a 503.")] = 256,
    timeout: Annotated[
        float, typer.Option(help="Seconds until a request is given up, with a 408 or 504.")
    ] = 30.0,
    no_key: Annotated[
        bool, typer.Option("--no-key", help="Let other machines ask without a key.")
    ] = False,
) -> None:
    """Serve models over HTTP: encode, decode, reconstruct, sample, elbo and impute.

    Other machines are let in with a key alone, which is set in the variable AEVB_API_KEY and is
    brought as Authorization: Bearer KEY. The page /docs says what to ask; / shows the model.
    """
    from aevb.serve.command import run

    key = os.environ.get("AEVB_API_KEY")
    limits = {"max_rows": max_rows, "max_body": max_body, "queue": queue, "timeout": timeout}
    run(models, host, port, key, no_key, **limits)


@app.command(
    epilog=_examples(
        "aevb export model.aevb encoder.onnx",
        "aevb export model.aevb score.onnx --what elbo --n-draws 100",
        "aevb export model.aevb decoder.stablehlo --what decode",
    )
)
def export(
    model: Model,
    output: Annotated[
        Path, typer.Argument(help="File to write: .onnx or .stablehlo.", show_default=False)
    ],
    what: Annotated[
        str, typer.Option(help="What it computes: encode, decode, reconstruct or elbo.")
    ] = "encode",
    n_draws: Annotated[int, typer.Option(help="Of elbo: draws of z for each case.")] = 32,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Write a function of a model to a file that runs without aevb."""
    from aevb.data.files import check_target

    check_target(output, overwrite=force)
    vae, _ = _prepare(model, None, None, force)
    vae.export(output, what, n_draws=n_draws, random_state=seed)


@app.command(
    epilog=_examples(
        "aevb report model.aevb test.csv",
        "aevb report model.aevb test.csv --labels species -o penguins.html",
        "aevb report model.aevb images.npy --labels digits.npy",
        "aevb report model.aevb test.csv --train train.csv",
    )
)
def report(
    model: Model,
    data: Annotated[
        Path | None,
        typer.Argument(help=f"Cases, one per row: {_FORMATS}.", show_default="none"),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="File of HTML to write.")] = Path(
        "report.html"
    ),
    labels: Annotated[
        str | None,
        typer.Option(
            help="What cases are called and coloured by: a column, or a file with one.",
            show_default="none",
        ),
    ] = None,
    train: Train = None,
    title: Annotated[
        str | None, typer.Option(help="Headline.", show_default="what was fitted")
    ] = None,
    n_draws: Annotated[int, typer.Option(help="Importance samples per case.")] = 100,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Write a report that one can send: one HTML file, which loads nothing from elsewhere."""
    from aevb.data.files import check_target, read_rows

    check_target(output, overwrite=force)
    vae, rows = _prepare(model, data, None, force)
    seen = None if train is None else read_rows(train)
    names = None
    if labels is not None:
        rows, names = _labels(vae, rows, labels)
        seen = _without(vae, seen, labels)
    vae.report(rows, output, names, train=seen, title=title, n_draws=n_draws, random_state=seed)
    typer.echo(f"The report is in {output}")


@app.command(
    epilog=_examples(
        "aevb push model.aevb user/name --private",
        "aevb push model.aevb user/name --data test.csv --license mit",
    )
)
def push(
    model: Model,
    repository: Repository,
    data: Annotated[
        Path | None,
        typer.Option(help="Held-out cases, whose scores are in the card.", show_default="none"),
    ] = None,
    license: Annotated[
        str | None, typer.Option(help="As the Hub calls it: mit.", show_default="none")
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.")
    ] = False,
    revision: Revision = None,
) -> None:
    """Push a model to the Hugging Face Hub, with a card that says what it is.

    The account is that of `hf auth login`, or of the token in HF_TOKEN.
    """
    vae, rows = _prepare(model, data, None, False)
    address = vae.push_to_hub(
        repository, rows, license=license, private=private or None, revision=revision
    )
    typer.echo(f"The model is at {address}")


@app.command(epilog=_examples("aevb pull user/name -o model.aevb"))
def pull(
    repository: Repository, output: ModelOut, revision: Revision = None, force: Force = False
) -> None:
    """Fetch a model from the Hugging Face Hub; runs no code from there."""
    from aevb.data.files import check_target, replacing

    check_target(output, overwrite=force)

    from aevb.share.hub import download

    fetched = download(repository, revision=revision)
    with replacing(output) as temporary:
        shutil.copyfile(fetched, temporary)
    typer.echo(f"The model is in {output}")


@app.command(epilog=_examples("aevb demo", "aevb demo --output digits --epochs 100"))
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path(
        "aevb-demo"
    ),
    epochs: Epochs = None,
) -> None:
    """Fit handwritten digits, and show what comes of it: a table, a model file and pictures.

    The digits come with scikit-learn. Results of an earlier run in the same folder are replaced.
    """
    from aevb.cli.demo import run

    run(output, epochs)


def _layers(hidden: str) -> str | tuple[int, ...]:
    if hidden == "auto":
        return hidden
    try:
        return tuple(int(units) for units in hidden.split(",")) if hidden.strip() else ()
    except ValueError as error:
        raise typer.BadParameter(
            f"expected auto or whole numbers, such as 500,500; got {hidden!r}.",
            param_hint="--hidden",
        ) from error


def _number_of(devices: str | None) -> str | int | None:
    """Return the devices as `VAE` takes them."""
    if devices is None or devices == "all":
        return devices
    try:
        return int(devices)
    except ValueError as error:
        raise typer.BadParameter(
            f"expected all or a number; got {devices!r}.", param_hint="--devices"
        ) from error


def _join(
    distributed: bool, coordinator: str | None, num_processes: int | None, process_id: int | None
) -> bool:
    """Join the other processes, if that is wanted; return whether this is the first."""
    if not distributed:
        if any(each is not None for each in (coordinator, num_processes, process_id)):
            raise typer.BadParameter(
                "expected --distributed beside --coordinator, --num-processes and --process-id.",
                param_hint="--distributed",
            )
        return True
    from aevb.data import processes

    processes.join(coordinator, num_processes, process_id)
    return processes.is_first()


def _norm(clip_norm: str) -> str | float | None:
    """Return the largest norm of a gradient, as `VAE` takes it."""
    if clip_norm in {"auto", "none"}:
        return None if clip_norm == "none" else clip_norm
    try:
        return float(clip_norm)
    except ValueError as error:
        raise typer.BadParameter(
            f"expected auto, none or a number; got {clip_norm!r}.", param_hint="--clip-norm"
        ) from error


def _labels(vae: Any, rows: Any, named: str) -> tuple[Any, Any]:
    """Return the cases, and their labels: a column of theirs, or what a file has."""
    from aevb.data.files import read_rows
    from aevb.data.tables import is_table, names_of

    if rows is None:
        raise typer.BadParameter("expected data with labels; got none.", param_hint="--labels")
    if is_table(rows) and named in names_of(rows):
        return _without(vae, rows, named), rows[named]
    if not Path(named).is_file():
        raise typer.BadParameter(
            f"expected a column of the data, or a file with one; got {named!r}.",
            param_hint="--labels",
        )
    column = read_rows(named)
    column = column.to_numpy() if is_table(column) else column
    return rows, column.reshape(len(column), -1)[:, 0] if column.ndim > 1 else column


def _without(vae: Any, rows: Any, column: str) -> Any:
    """Return rows without a column that the model does not know."""
    from aevb.data.tables import is_table, names_of

    is_there = is_table(rows) and column in names_of(rows)
    is_known = column in (vae.schema_.names or ())
    return rows.drop(columns=[column]) if is_there and not is_known else rows


def _pairs(given: list[str] | None, option: str) -> list[tuple[str, str]]:
    """Return names and values of options such as age=gamma."""
    pairs = [text.rpartition("=")[::2] for text in given or []]
    for (name, _), text in zip(pairs, given or [], strict=True):
        if not name:
            raise typer.BadParameter(
                f"expected a column and its value, such as age=gamma; got {text!r}.",
                param_hint=option,
            )
    return pairs


def _kinds(given: list[str] | None, otherwise: str = "auto") -> str | dict[str, str]:
    """Return the likelihood that a fit is told: by column, if any column is named."""
    pairs = dict(_pairs(given, "--kind"))
    if pairs and otherwise != "auto":
        raise typer.BadParameter(
            f"expected --likelihood or --kind, not both; got {otherwise!r} and {given}.",
            param_hint="--kind",
        )
    return pairs or otherwise


def _given(vae: Any, pairs: list[tuple[str, str]]) -> dict[Any, Any] | None:
    """Return values by column as `VAE.sample` takes them: texts for categories, else numbers."""
    columns = vae.schema_.columns
    texts = [] if columns is None else [c.type.name for c in columns.choices if c.type.categories]
    given: dict[Any, Any] = {}
    for name, text in pairs:
        key = int(name) if columns is None and name.isdecimal() else name
        truth = {"true": 1.0, "false": 0.0}.get(text.lower())
        try:
            given[key] = text if name in texts else float(text) if truth is None else truth
        except ValueError:
            given[key] = text
    return given or None


def _prepare(model: Path, data: Path | None, output: Path | None, force: bool) -> Any:
    """Check the output before anything else; return the model and the cases."""
    from aevb.data.files import check_rows_target, read_rows

    if output is not None:
        check_rows_target(output, overwrite=force)

    from aevb.vae import VAE

    vae = VAE.load(model)
    return vae, None if data is None else read_rows(data)


def main() -> None:
    """Run the ``aevb`` command."""
    try:
        app()
    except SystemExit as end:
        jax = sys.modules.get("jax")
        if end.code and jax is not None and jax.distributed.is_initialized():
            sys.stdout.flush()
            os._exit(int(end.code))  # at its exit JAX would wait for the others
        raise
