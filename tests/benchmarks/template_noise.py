"""Does `objective.template_noise` pay? The AGC's analysis on few events, each variation of ttbar a sample of its own.

Exact objectives on training and held-out events before and after, without and with it, for several data sets; run with
`.venv/bin/python tests/benchmarks/template_noise.py [seeds] [overrides]`.
"""

import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from columnfiles import write_columns
from generated import generated

from pipeline.cluster import InProcess
from pipeline.data import datasets
from pipeline.gradient.loss import judge
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.optimise.epochs import each_epoch
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.update import initial_state
from pipeline.templates.fill import EXACT

VARIATIONS = ("scaledown", "scaleup", "ME_var", "PS_var")
EVENTS = {
    **{"ttbar": 4000, "wjets": 6000, "single_top_t_chan": 1500, "single_top_tW": 1500},
    **{f"ttbar__{name}": 2000 for name in VARIATIONS},
}


def main(seeds, overrides):
    """Print a line for each data set, and the means."""
    jax.config.update("jax_enable_x64", True)
    found, judged = [], None
    for seed in range(1, seeds + 1):
        folder = Path(tempfile.mkdtemp())
        more = [f"simulate.seed={seed}", *overrides]
        run = generated(ROOT / "config" / "agc_samples.yaml", EVENTS, folder, more)
        columns = write_columns(run, folder / "columns")
        works = [prepare_work(run, columns, fold) for fold in (datasets.TRAIN, datasets.HELD_OUT)]
        judged = judged or judge(run, works[0].axes)
        start = initial_parameters(run)
        numbers = [judged(forward(InProcess(), own, start, EXACT), start).objective for own in works]
        for choice in (False, True):
            began = time.perf_counter()
            own = run.objective.model_copy(update={"template_noise": choice})
            settings, state = run.model_copy(update={"objective": own}), initial_state(run, start)
            for after, _ in each_epoch(
                settings, InProcess(), works[0], state, until=run.optimise.epochs, judged=judged
            ):
                state = after
            best = state.result
            numbers += [judged(forward(InProcess(), w, best, EXACT), best).objective for w in works]
            where = {name: round(float(value), 3) for name, value in best.items()}
            print(f"seed {seed}, {choice}: {time.perf_counter() - began:.0f} s, {where}", flush=True)
        print(f"seed {seed}: start, without, with: {np.round(numbers, 4)}", flush=True)
        found.append(numbers)
    print(f"means: {np.round(np.mean(found, axis=0), 4)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, sys.argv[2:])
