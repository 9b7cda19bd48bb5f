"""The training of an estimator: from learned data to the run that is kept.

A fit makes one or several starts. Each may begin with a search for the number of epochs, on nine
tenths of the cases, and ends with a run on all of them. The estimator has the model of every
complete epoch, whatever comes after.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from aevb import predict
from aevb.algorithm import check_fit, generator, speaks
from aevb.checkpoint import PAUSES, Checkpoints, Saved, Stage, identity_of
from aevb.compiling import jit
from aevb.config import Config
from aevb.data.devices import Devices, placement_for
from aevb.data.processes import check_same, gathered
from aevb.data.source import Numbered, Source
from aevb.epochs import Search, is_searched, most_epochs
from aevb.errors import FitWarning, TrainingDiverged
from aevb.inference.clipping import Clipping
from aevb.inference.objective import Objective
from aevb.inference.run import Callback, Epoch, Plan, Run, advance, at_best, begin, result_of
from aevb.inference.stopping import EarlyStopping, Watch, judged_at
from aevb.learned import Data, Learned
from aevb.models.autoencoder import build_autoencoder
from aevb.models.checks import check_model
from aevb.models.kinds.rows import is_stored, n_cases, take
from aevb.models.priors import Fixed
from aevb.persistence import versions
from aevb.progress import ProgressBar

_EXPLAINED = "explained_nats_"

_build = jit(build_autoencoder)


class Fitting:
    """One training of an estimator.

    Parameters
    ----------
    vae : VAE
        Whose parameters say how, and which gets what is learned.
    objective : Objective
        What to maximise.
    stops : sequence of callables
        Callbacks that may stop the training, beside the estimator's own, and say if that is `due`.
    """

    def __init__(self, vae: Any, objective: Objective, stops: Sequence[Any] = ()):
        self.vae = vae
        self.objective = objective
        self.stops = stops
        self.checkpoints: Checkpoints | None = None
        self.placement = placement_for(vae.devices, int(vae.batch_size))

    def fit(
        self,
        learned: Learned,
        data: Data,
        weight: np.ndarray | None,
        held: Data | None,
        random: np.random.RandomState,
    ) -> None:
        """Train from the beginning, and keep the best of the starts.

        Parameters
        ----------
        learned, data, weight
            What was learned of the cases, the cases as rows, and their weights.
        held : Data, optional
            Held-out cases as rows.
        random : RandomState
            Draws who is held out, where training starts, and its noise.
        """
        vae = self.vae
        random = self._together(learned, (data, weight, held), random)
        if vae.checkpoint is not None:
            if vae.random_state is None:  # a resumed fit sets its generator back: not that of all
                random = np.random.RandomState(random.randint(2**31 - 1))
            everything = (data, weight, held)
            described = learned.schema.to_json()
            self.checkpoints = Checkpoints(
                vae.checkpoint, vae.get_params(deep=False), everything, described, random
            )
        if held is None and vae.validation_fraction:
            data, weight, held = data.split(vae.validation_fraction, random, weight)
            learned = learned.measured_on(data)
        data = data.encoded(learned.schema)
        held_out = None
        if held is not None:
            held_out = held.encoded(learned.schema).source(vae.batch_size, None, self.placement)
        seeds = copy.deepcopy(random).randint(2**31 - 1, size=vae.n_init - 1)
        best, value, failure = None, -math.inf, None
        try:
            for start, own in enumerate([random, *map(np.random.RandomState, seeds)]):
                try:
                    self._fit_once(start, learned, data, weight, held_out, own)
                except TrainingDiverged as error:
                    failure = error
                    continue
                _, reached = judged_at(vae.history_, vae.best_epoch_)
                if best is None or reached > value:
                    best, value = dict(vars(vae)), reached
                due = vae._run.stopped in PAUSES or any(stop.due for stop in self.stops)
                due = self.placement.agree("due" if due else None) is not None
                if due and start + 1 < vae.n_init:
                    warnings.warn(
                        f"Training was stopped after {start + 1} of {vae.n_init} starts.",
                        FitWarning,
                        stacklevel=3,
                    )
                    break
        finally:
            if best is not None:
                vars(vae).update(best)
        if failure is not None:
            if best is None:
                raise failure
            warnings.warn(
                f"A start was left out of the choice: {failure}", FitWarning, stacklevel=3
            )

    def pass_over(
        self,
        learned: Learned | None,
        data: Data,
        weight: np.ndarray | None,
        random: np.random.RandomState,
    ) -> None:
        """Make one pass over some cases, from the model so far if nothing new is learned."""
        vae = self.vae
        if learned is not None:
            random = self._together(learned, (data, weight), random)
        source = data.source(vae.batch_size, weight, self.placement)
        if learned is None:
            run = self._continued(source, random)
        else:
            run, _ = self._begin(learned, data, source, random)
        plan = self._plan(run.epoch + 1)._replace(stopping=EarlyStopping(None, None), falls=False)
        check_fit(run.state.model, source, plan, run.state.key)
        stage = Stage(0, False, plan.epochs, None)
        self._advance(run, source, plan, data, stage, partial(copy.copy, run))

    def _together(
        self, learned: Learned, data: tuple, random: np.random.RandomState
    ) -> np.random.RandomState:
        """Check that all processes fit the same; return a generator that is the same in all."""
        if not isinstance(self.placement, Devices) or jax.process_count() == 1:
            return random
        parameters = self.vae.get_params(deep=False)
        identity = identity_of(parameters, data, learned.schema.to_json())
        check_same(
            {
                **{f"`{name}`": str(value) for name, value in identity["parameters"].items()},
                "the number of cases": str(n_cases(data[0])),
                "columns or categories": learned.schema.describe() + identity["schema"][:8],
                "values (by their hash)": identity["data"][:8],
                "versions": str(versions()),
            }
        )
        if isinstance(self.vae.random_state, int | np.integer):
            return random
        return np.random.RandomState(int(gathered(str(random.randint(2**31 - 1)))[0]))

    def _newest(self, start: int) -> Saved | None:
        """Return the newest checkpoint of a start, which all processes have to find."""
        if self.checkpoints is None:
            return None
        saved = self.checkpoints.newest(start)
        found = f"epoch {saved.header['epoch']}" if saved is not None else "none"
        if isinstance(self.placement, Devices):
            everyone = gathered(found)
            if len(set(everyone)) > 1:
                raise ValueError(
                    "Expected a directory that all processes share for `checkpoint`; got one "
                    f"whose newest checkpoints are of {', '.join(everyone)}."
                )
        return saved

    def _fit_once(
        self,
        start: int,
        learned: Learned,
        data: Data,
        weight: np.ndarray | None,
        held_out: Source | None,
        random: np.random.RandomState,
    ) -> None:
        """Train from one start, or from its newest checkpoint."""
        vae, n = self.vae, n_cases(data)
        source = data.source(vae.batch_size, weight, self.placement)
        most = most_epochs(n, vae.batch_size)
        plan = self._plan(most if vae.epochs == "auto" else int(vae.epochs))
        saved = self._newest(start)
        run, found = None, None
        if saved is not None and not saved.stage.searching:
            plan = saved.stage.plan(plan)
        elif held_out is None and self._is_searched(plan, data):
            run, plan, found = self._search(start, learned, data, source, plan, random, saved)
            saved = None
        restart = None
        if run is None:
            run, restart = self._begin(learned, data, source, random)
            check_fit(run.state.model, source, plan, run.state.key, held_out)
        if plan.first_round is not None:  # it began where the search ended, which nobody keeps
            restart = None
        if saved is not None:
            run = self._resumed(saved, run)
        stage = Stage(start, False, plan.epochs, plan.first_round)
        self._advance(run, source, plan, data, stage, restart, held_out)
        if found is not None and vae.n_epochs_ < found.watch.best_epoch:
            # It has ended early: what the search had come to is better.
            self._keep(at_best(found).stopped_for(vae._run.stopped)._replace(watch=Watch()))
            self._explain(data)

    def _search(
        self,
        start: int,
        learned: Learned,
        data: Data,
        source: Source,
        plan: Plan,
        random: np.random.RandomState,
        saved: Saved | None,
    ) -> tuple[Run | None, Plan, Run]:
        """Train on nine tenths; return where to go on from, by which plan, and the last run.

        None is to begin with a new run.
        """
        apart = copy.deepcopy(random)  # a new run is that of a fit with this number of epochs
        search = Search(plan, data, apart, source.weight)
        assert isinstance(source, Numbered)  # of cases in memory
        training, held_out = source.part(search.rest), source.part(search.out)
        run, restart = self._begin(learned, take(data, search.rest), training, apart)
        check_fit(run.state.model, training, search.plan, run.state.key, held_out)
        if saved is not None:
            run = self._resumed(saved, run)
        stage = Stage(start, True, plan.epochs, None)
        try:
            last = self._advance(run, training, search.plan, data, stage, restart, held_out, search)
            onward, plan = search.then(last)
        except TrainingDiverged as error:
            last = error.result.run
            onward, plan = search.then(last, diverged=True)
        if onward is not None:
            random.set_state(apart.get_state())
        return onward, plan, last

    def _is_searched(self, plan: Plan, data: Data) -> bool:
        """Whether the number of epochs is found on held-out cases first."""
        stops = plan.stopping.on or plan.stopping.measures_moves
        found = self.vae.epochs == "auto" and not stops and is_searched(n_cases(data))
        return found and not is_stored(data.x)

    def _resumed(self, saved: Saved, template: Run) -> Run:
        """Return the run of a checkpoint, whose model the estimator has from now on."""
        run = saved.run(template)
        vars(self.vae).pop(_EXPLAINED, None)  # of another model
        self._keep(run)
        return run

    def _begin(
        self, learned: Learned, data: Data, source: Source, random: np.random.RandomState
    ) -> tuple[Run, Callable[[], Run]]:
        """Return the run before its first step, and a function that makes it once more."""
        before = copy.deepcopy(random)
        run = self._built(learned, data, source, random)
        return run, lambda: self._built(learned, data, source, copy.deepcopy(before))

    def _built(
        self, learned: Learned, data: Data, source: Source, random: np.random.RandomState
    ) -> Run:
        """Build the model for some cases, and return the run before its first step."""
        vae, schema = self.vae, learned.schema
        config = Config.of(vae, schema.n_rows)
        impl = generator(self.placement)
        key_model, key = random_key(random, impl), random_key(random, impl)
        start = learned.start(data, config, source.weight)
        config = replace(config, init="random" if start is None else "linear")
        parts = config.parts()
        parts["condition_size"] = learned.condition_size
        examples = learned.examples(data, config)
        model = _build(schema.block, examples=examples, start=start, key=key_model, **parts)
        model = learned.exposed(model)
        if isinstance(config.prior, Fixed):  # the ends of its support are known by value alone
            check_model(model, *source.example())
        vae.schema_, vae.condition_, vae.exposure_ = learned
        vae.config_ = config
        vae._optimizer = self._optimizer()
        return begin(model, source, self.objective, vae.optimizer, vae.learning_rate, key)

    def _continued(self, source: Source, random: np.random.RandomState) -> Run:
        """Return the run so far; from its model alone, after `load` or for another optimizer."""
        vae, optimizer, impl = self.vae, self._optimizer(), generator(self.placement)
        if getattr(vae, "_optimizer", None) == optimizer:
            run = vae._run.stopped_for("")._replace(recoveries=0, recovered_at=-1)
            if str(jax.random.key_impl(run.state.key)) == impl:
                return run
            return run._replace(state=run.state._replace(key=random_key(random, impl)))
        vae._optimizer = optimizer
        key = random_key(random, impl)
        run = begin(vae.model_, source, self.objective, vae.optimizer, vae.learning_rate, key)
        return run._replace(epoch=vae.n_epochs_, history=vae.history_).stopped_for("")

    def _optimizer(self) -> tuple:
        """Return what the form of the optimizer's state depends on: numbers only sit in it."""
        rate = self.vae.learning_rate
        return self.vae.optimizer, rate if callable(rate) else None

    def _plan(self, epochs: int) -> Plan:
        vae = self.vae
        return Plan(
            self.objective,
            vae.optimizer,
            vae.learning_rate,
            int(vae.batch_size),
            epochs,
            EarlyStopping(vae.patience, vae.tol, vae.tol_params),
            clipping=Clipping(vae.clip_norm),
        )

    def _advance(
        self,
        run: Run,
        source: Source,
        plan: Plan,
        data: Data,
        stage: Stage,
        restart: Callable[[], Run] | None,
        held_out: Source | None = None,
        search: Search | None = None,
    ) -> Run:
        """Train on, and keep every epoch that is complete, whatever comes; return the last run."""
        vae = self.vae
        before, is_speaker = getattr(vae, "history_", None), speaks(self.placement)
        model = run.state.model
        estimator = model.estimator if vae.estimator == "auto" else vae.estimator
        headline = f"VAE on {vae.schema_.describe()}; estimator {estimator!r}"
        if search is not None:
            headline += "; a tenth of the cases is held out at first"

        def see(epoch: Epoch) -> None:
            self._keep(epoch.run)

        def keep(run: Run) -> None:
            if not run.position:
                vae._run, vae.history_ = run, run.history  # with the reason, if it stops here
            if self.checkpoints is not None and is_speaker:
                self.checkpoints.keep(stage, run)

        try:
            if not run.stopped or run.stopped in PAUSES:
                verbose = vae.verbose if is_speaker else False
                with ProgressBar(plan.epochs - run.epoch, verbose, headline) as bar:
                    callbacks: Sequence[Callback] = (see, bar, *vae.callbacks, *self.stops)
                    if search is not None:
                        callbacks = (*callbacks, search)
                    run = advance(
                        run,
                        source,
                        plan,
                        validation=held_out,
                        callbacks=callbacks,
                        keep=keep,
                        restart=restart,
                    )
            if search is None:
                best = run.watch.best_epoch or run.epoch
                self._keep(run._replace(state=result_of(run).state, watch=Watch()), best)
        except TrainingDiverged as error:
            if error.result is not None and error.result.run.epoch:
                self._keep(error.result.run)
            raise
        finally:
            trained = getattr(vae, "history_", None) is not before
            if trained or (before is not None and not hasattr(vae, _EXPLAINED)):
                self._explain(data)
        return run

    def _explain(self, data: Data) -> None:
        """Let the estimator know what its latents carry."""
        some = data.some(4096)
        kl = predict.latent_kl(self.vae.model_, some.x, context=some.c)
        setattr(self.vae, _EXPLAINED, kl.mean(axis=0))

    def _keep(self, run: Run, best_epoch: int | None = None) -> None:
        vae = self.vae
        vae._run, vae.model_ = run, run.state.estimate
        vae.aggregate_posterior_ = None  # that of another model
        vae.best_epoch_ = run.epoch if best_epoch is None else best_epoch
        vae.n_epochs_, vae.history_ = run.epoch, run.history


@contextmanager
def nothing_lost(vae: Any) -> Iterator[None]:
    """Undo everything if an error comes before the first epoch of a training is complete."""
    before = dict(vars(vae))
    try:
        yield
    except BaseException:
        if getattr(vae, "history_", None) is before.get("history_"):
            vars(vae).clear()
            vars(vae).update(before)
        raise


def random_key(random: np.random.RandomState, impl: str | None = None) -> jax.Array:
    """Draw a JAX key from a NumPy generator."""
    return jax.random.key(random.randint(2**31 - 1), impl=impl)
