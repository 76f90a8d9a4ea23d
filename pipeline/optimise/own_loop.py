"""What the epochs of a run minimise, with its gradient, in this process: for a loop of one's own."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from pipeline.cluster import InProcess
from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.data import datasets
from pipeline.data.run_files import ColumnFiles
from pipeline.errors import ConfigError, nearest
from pipeline.gradient.halves import of_optimisation
from pipeline.gradient.loss import Judge, judge
from pipeline.gradient.sweeps import Executor, FreeValues, forward, value_and_grad
from pipeline.gradient.work import Work, prepare_work
from pipeline.optimise.automatic_widths import with_all_widths
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.pruning import decision_at
from pipeline.optimise.schedule import widths_at
from pipeline.templates.fill import EXACT


class Loss(NamedTuple):
    """What a run minimises over its training events, made once for many calls.

    ``initial`` are the start values: numbers, an analysis's own arrays, and for free bin edges their logits.
    """

    config: Config
    initial: FreeValues
    executor: Executor
    work: Work
    judged: Judge

    @classmethod
    def of(cls, config: Config, columns: ColumnFiles) -> "Loss":
        """Return that of a configuration; with ``data.folds`` that of the first optimisation.

        Raises:
            ConfigError: the analysis has a stage without a derivative, whose surrogate is learnt by the epochs.
        """
        with jax.enable_x64(True):
            work = prepare_work(config, columns, datasets.training(config, datasets.optimisations(config)[0]))
            if work.problem.analysis.simulated is not None:
                raise ConfigError(
                    f"{config.analysis.target} has a stage without a derivative, whose surrogate is learnt from epoch "
                    "to epoch; use Run.optimise"
                )
            initial = initial_parameters(config)
            config = with_all_widths(config, work, initial)
            executor = InProcess()
            work, judged = of_optimisation(config, work, judge(config, work.axes))
            decision = decision_at(config, executor, work, initial, judged)
            return cls(config, initial, executor, work, judged.decided(decision))

    def value_and_grad(
        self, parameters: Mapping[str, ArrayLike], epoch: int | None = None
    ) -> tuple[float, FreeValues]:
        """Return what is minimised, penalties included, and its derivatives: all training events, in one gradient.

        Args:
            parameters: by name; those that are left out are at their start values.
            epoch: whose widths the smooth cuts have, from 0; None: the final ones.

        Raises:
            ConfigError: there is no such parameter, or it has another shape.
            FitError: a template, the objective or the gradient is not finite.
        """
        last = self.config.optimise.epochs if epoch is None else epoch
        with jax.enable_x64(True):
            widths = widths_at(self.config, last)
            is_exact = self.config.optimise.values == "exact"
            step = value_and_grad(
                self.executor, self.work, self._at(parameters), widths, self._minimised, exact=is_exact
            )
            return step.objective, step.gradient

    def exact(self, parameters: Mapping[str, ArrayLike]) -> float:
        """Return what is minimised with hard cuts, on the same events; it has no derivative."""
        with jax.enable_x64(True):
            at = self._at(parameters)
            return self.judged(forward(self.executor, self.work, at, EXACT), at).minimised

    def _minimised(self, templates: Templates, parameters: FreeValues) -> tuple[float, Templates, FreeValues]:
        found = self.judged(templates, parameters)
        return found.minimised, found.slopes, found.direct

    def _at(self, parameters: Mapping[str, ArrayLike]) -> FreeValues:
        """Return all free parameters, in float64."""
        for name, value in parameters.items():
            if name not in self.initial:
                raise ConfigError(f"{name!r} is no free parameter of the run; {nearest(name, self.initial)}")
            shape, wanted = np.shape(value), np.shape(self.initial[name])
            if shape != wanted:
                raise ConfigError(f"parameter {name!r} has the shape {shape}; allowed: {wanted}")
        return {
            name: np.asarray(parameters.get(name, own), dtype=np.asarray(own).dtype)
            for name, own in self.initial.items()
        }
