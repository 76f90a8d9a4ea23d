"""The contract between a physicist's analysis and the pipeline: what a class says, and how it is loaded."""

from pipeline.analysis.benchmarks import Benchmarks as Benchmarks
from pipeline.analysis.contract import Analysis as Analysis
from pipeline.analysis.contract import Made as Made
from pipeline.analysis.contract import analysis_of as analysis_of
from pipeline.analysis.contract import load as load
from pipeline.analysis.contract import start_arrays as start_arrays
from pipeline.analysis.declarations import EVENT_NUMBER as EVENT_NUMBER
from pipeline.analysis.declarations import NOISE as NOISE
from pipeline.analysis.declarations import FlatTree as FlatTree
from pipeline.analysis.declarations import Free as Free
from pipeline.analysis.declarations import NanoAOD as NanoAOD
from pipeline.analysis.declarations import Simulated as Simulated
from pipeline.analysis.learned_bins import GaussianBins as GaussianBins
from pipeline.analysis.learned_bins import LearnedBins as LearnedBins
from pipeline.analysis.learned_bins import NetworkBins as NetworkBins
from pipeline.analysis.learned_bins import gains as gains
from pipeline.analysis.lookups import lookup as lookup
from pipeline.analysis.systematics import Changed as Changed
from pipeline.analysis.systematics import Shift as Shift
from pipeline.analysis.systematics import ShiftSize as ShiftSize
from pipeline.analysis.systematics import Transform as Transform
from pipeline.analysis.systematics import Variation as Variation
from pipeline.analysis.systematics import WeightFactor as WeightFactor
from pipeline.analysis.theory import Theory as Theory
from pipeline.analysis.weights import coffea_variations as coffea_variations
