"""From start values to the optimised parameters: schedules, updates, epochs, what is kept of them."""

from pipeline.optimise.blocks import load as load
from pipeline.optimise.blocks import save as save
from pipeline.optimise.epochs import each_epoch as each_epoch
from pipeline.optimise.epochs import run as run
from pipeline.optimise.update import initial_state as initial_state
