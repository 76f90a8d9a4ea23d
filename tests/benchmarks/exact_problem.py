"""What gradients and black-box searches are compared on: exact objectives, a box, a record of the best."""

import time

import equinox as eqx
import numpy as np

from pipeline.analysis import analysis_of
from pipeline.cluster import InProcess
from pipeline.data import datasets
from pipeline.errors import FitError
from pipeline.gradient.loss import judge
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.likelihood.configured.specifier import Specifier
from pipeline.objective import Inputs, total
from pipeline.optimise.automatic_widths import with_all_widths
from pipeline.optimise.parameters import initial_parameters
from pipeline.templates.binning import binnings_of
from pipeline.templates.fill import EXACT

LOGITS = 3.0  # free bin edges go so far to either side of their start
WEIGHTS = 1.0  # and a network's weights
REPLICAS = 40  # bootstrap samples of the held-out events
TIMED = 20  # evaluations that say what one costs


class Unit:
    """Parameters as one point of the unit box: cuts between their bounds, arrays about their start."""

    def __init__(self, settings):
        self.start, free = initial_parameters(settings), analysis_of(settings).parameters
        edges = {binning.parameter for binning in binnings_of(settings)}
        self.bounds = {}
        for name, value in sorted(self.start.items()):
            reach = LOGITS if name in edges else WEIGHTS
            low, high = free[name].bounds if name in free else (value - reach, value + reach)
            self.bounds[name] = np.asarray(low, dtype=float), np.asarray(high, dtype=float)

    def point(self, parameters):
        """The point of some parameters."""
        parts = [np.ravel((parameters[n] - low) / (high - low)) for n, (low, high) in self.bounds.items()]
        return np.concatenate(parts)

    def parameters(self, point):
        """The parameters of a point; of one outside the box those of the nearest inside."""
        found, place = {}, 0
        for name, (low, high) in self.bounds.items():
            size, like = np.size(self.start[name]), np.shape(self.start[name])
            part = np.clip(point[place : place + size].reshape(like), 0, 1)
            found[name] = (low + part * (high - low)).astype(np.asarray(self.start[name]).dtype)[()]
            place += size
        return found


class Judge:
    """The exact objective of a fold of the events: one pass by the run's own sweep, one fit, without a derivative."""

    def __init__(self, settings, columns, fold):
        self.objective, self.executor = settings.objective_of_parameters, InProcess()
        self.work = prepare_work(settings, columns, fold)
        self.specifier = Specifier.of_run(settings, self.work.axes)
        self.value = eqx.filter_jit(self._value)

    def _value(self, seen, model):
        value, result = total(self.objective, Inputs(model, self.specifier.stacked(seen)))
        return value, result.value, result.converged

    def __call__(self, parameters, replica=None):
        """What is published and what is minimised; infinity where there is no fit."""
        try:
            templates = forward(self.executor, self.work, parameters, EXACT, replica=replica)
        except FitError:
            return np.inf, np.inf
        seen = self.specifier.side_by_side(templates)
        minimised, published, converged = self.value(seen, self.specifier.model)
        if not (bool(converged) and np.isfinite(float(minimised))):
            return np.inf, np.inf
        return float(published), float(minimised)

    def error(self, parameters):
        """The spread of what is published over bootstrap samples of the events."""
        found = np.array([self(parameters, replica)[0] for replica in range(REPLICAS)])
        return float(np.std(found[np.isfinite(found)], ddof=1))

    def difference(self, parameters, others):
        """What is published less that of other parameters, and its error, by bootstrap samples that both share."""
        pairs = ((self(parameters, n)[0], self(others, n)[0]) for n in range(REPLICAS))
        found = [one - other for one, other in pairs if np.isfinite(one) and np.isfinite(other)]
        return self(parameters)[0] - self(others)[0], float(np.std(found, ddof=1))

    def cost(self, parameters):
        """CPU seconds of an evaluation, once compiled."""
        self(parameters)
        begun = time.process_time()
        for _ in range(TIMED):
            self(parameters)
        return (time.process_time() - begun) / TIMED


class Problem:
    """A run on its columns: the box, both folds, and what gradients need."""

    def __init__(self, settings, columns):
        self.unit = Unit(settings)
        work = prepare_work(settings, columns, datasets.TRAIN)
        self.settings = with_all_widths(settings, work, self.unit.start)
        self.train, self.held_out = (Judge(settings, columns, f) for f in (datasets.TRAIN, datasets.HELD_OUT))
        self.judged = judge(self.settings, self.train.work.axes)


class Record:
    """The best point so far, by what is minimised on training events, and the CPU seconds of finding it.

    What is looked at for the record alone costs the search nothing.
    """

    def __init__(self, held_out):
        self.held_out, self.numbers = held_out, {}
        self.published = self.minimised = np.inf
        self.best = None
        self.aside = -time.process_time()

    @property
    def seconds(self):
        """CPU seconds of the search up to now."""
        return time.process_time() + self.aside

    def offer(self, parameters, published, minimised):
        """Keep a point that is better."""
        if self.best is None or minimised < self.minimised:
            self.best, self.published, self.minimised = parameters, published, minimised

    def note(self, name, seconds=None):
        """Write the best so far: `train.<name>`, `held_out.<name>`, `seconds.<name>`."""
        own = self.seconds
        self.numbers |= {
            f"train.{name}": self.published,
            f"held_out.{name}": self.held_out(self.best)[0],
            f"seconds.{name}": own if seconds is None else seconds,
        }
        self.aside = own - time.process_time()

    def end(self, seconds=None):
        """Write the best of all: `train`, `held_out`, `held_out_error`, `seconds`."""
        own = self.seconds if seconds is None else seconds
        error = self.held_out.error(self.best)
        found = {"train": self.published, "held_out": self.held_out(self.best)[0], "held_out_error": error}
        self.numbers |= {**found, "seconds": own}
