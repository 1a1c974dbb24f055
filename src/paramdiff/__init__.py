"""paramdiff: learn the distribution of trained network parameters and sample new, working networks.

Everything that users need is a name of this package. Names are imported when they are first used, so
``import paramdiff`` costs nothing; type checkers see them all.
"""

from importlib import import_module

TYPE_CHECKING = False  # as in typing, which is not imported: that alone would double the time
if TYPE_CHECKING:
    from paramdiff import errors as errors
    from paramdiff import testing as testing
    from paramdiff.collectors.checkpoints import CheckpointCollector as CheckpointCollector
    from paramdiff.collectors.collector import Collector as Collector
    from paramdiff.collectors.optimisation import TrainingConfig as TrainingConfig
    from paramdiff.collectors.seeds import SeedCollector as SeedCollector
    from paramdiff.collectors.trajectory import TrajectoryCollector as TrajectoryCollector
    from paramdiff.errors import CheckpointError as CheckpointError
    from paramdiff.errors import ConfigError as ConfigError
    from paramdiff.errors import DiskError as DiskError
    from paramdiff.errors import FrozenRestWarning as FrozenRestWarning
    from paramdiff.errors import GeneratorError as GeneratorError
    from paramdiff.errors import HubError as HubError
    from paramdiff.errors import HubMissingError as HubMissingError
    from paramdiff.errors import HubUnreachableError as HubUnreachableError
    from paramdiff.errors import NumericalError as NumericalError
    from paramdiff.errors import ParamdiffError as ParamdiffError
    from paramdiff.errors import ParamdiffWarning as ParamdiffWarning
    from paramdiff.errors import RunFolderError as RunFolderError
    from paramdiff.errors import SelectionError as SelectionError
    from paramdiff.errors import TaskError as TaskError
    from paramdiff.errors import ZooError as ZooError
    from paramdiff.evaluation.comparison import Scored as Scored
    from paramdiff.generators.autoencoder import Autoencoder as Autoencoder
    from paramdiff.generators.autoencoder import PlainAutoencoder as PlainAutoencoder
    from paramdiff.generators.autoencoder_kde import AutoencoderKde as AutoencoderKde
    from paramdiff.generators.averages import Average as Average
    from paramdiff.generators.averages import AverageOfK as AverageOfK
    from paramdiff.generators.behaviour import Behaviour as Behaviour
    from paramdiff.generators.context import Feedback as Feedback
    from paramdiff.generators.context import FitContext as FitContext
    from paramdiff.generators.diffusion import Diffusion as Diffusion
    from paramdiff.generators.fine_tuned import FineTuned as FineTuned
    from paramdiff.generators.further_trained import FurtherTrained as FurtherTrained
    from paramdiff.generators.gaussian import Gaussian as Gaussian
    from paramdiff.generators.gaussian import LowRankGaussian as LowRankGaussian
    from paramdiff.generators.gaussian import Swag as Swag
    from paramdiff.generators.gaussian_latents import GaussianLatents as GaussianLatents
    from paramdiff.generators.generator import Generator as Generator
    from paramdiff.generators.generator import register as register
    from paramdiff.generators.guidance import Guidance as Guidance
    from paramdiff.generators.latent_noise import LatentNoise as LatentNoise
    from paramdiff.generators.linear_autoencoder import LinearAutoencoder as LinearAutoencoder
    from paramdiff.generators.noise import MatchedNoise as MatchedNoise
    from paramdiff.generators.noise import NoisedMembers as NoisedMembers
    from paramdiff.generators.pdiff import ParameterDiffusion as ParameterDiffusion
    from paramdiff.generators.pdiff_linear import LinearParameterDiffusion as LinearParameterDiffusion
    from paramdiff.generators.reconstruction_check import ReconstructionCheck as ReconstructionCheck
    from paramdiff.generators.vae import VariationalAutoencoder as VariationalAutoencoder
    from paramdiff.parameters.normaliser import Normaliser as Normaliser
    from paramdiff.parameters.spec import ParameterSpec as ParameterSpec
    from paramdiff.progress import silenced as silenced
    from paramdiff.runs.evaluate import Evaluation as Evaluation
    from paramdiff.runs.evaluate import evaluate as evaluate
    from paramdiff.runs.finished import Run as Run
    from paramdiff.runs.functions import collect as collect
    from paramdiff.runs.functions import inspect as inspect
    from paramdiff.runs.functions import report as report
    from paramdiff.runs.functions import run as run
    from paramdiff.runs.functions import score as score
    from paramdiff.tasks.configuration import make_task as make_task
    from paramdiff.tasks.task import Data as Data
    from paramdiff.tasks.task import Task as Task
    from paramdiff.zoo.diagnostics import Inspection as Inspection
    from paramdiff.zoo.score_filter import ScoreFilter as ScoreFilter
    from paramdiff.zoo.zoo import Record as Record
    from paramdiff.zoo.zoo import Zoo as Zoo

__version__ = "0.1.0"

EXPORTS = {
    "collectors.checkpoints": ("CheckpointCollector",),
    "collectors.collector": ("Collector",),
    "collectors.optimisation": ("TrainingConfig",),
    "collectors.seeds": ("SeedCollector",),
    "collectors.trajectory": ("TrajectoryCollector",),
    "errors": (
        "CheckpointError", "ConfigError", "DiskError", "FrozenRestWarning", "GeneratorError", "HubError",
        "HubMissingError", "HubUnreachableError", "NumericalError", "ParamdiffError", "ParamdiffWarning",
        "RunFolderError", "SelectionError", "TaskError", "ZooError",
    ),
    "evaluation.comparison": ("Scored",),
    "generators.autoencoder": ("Autoencoder", "PlainAutoencoder"),
    "generators.autoencoder_kde": ("AutoencoderKde",),
    "generators.averages": ("Average", "AverageOfK"),
    "generators.context": ("Feedback", "FitContext"),
    "generators.diffusion": ("Diffusion",),
    "generators.fine_tuned": ("FineTuned",),
    "generators.further_trained": ("FurtherTrained",),
    "generators.behaviour": ("Behaviour",),
    "generators.gaussian": ("Gaussian", "LowRankGaussian", "Swag"),
    "generators.gaussian_latents": ("GaussianLatents",),
    "generators.generator": ("Generator", "register"),
    "generators.guidance": ("Guidance",),
    "generators.latent_noise": ("LatentNoise",),
    "generators.linear_autoencoder": ("LinearAutoencoder",),
    "generators.noise": ("MatchedNoise", "NoisedMembers"),
    "generators.pdiff": ("ParameterDiffusion",),
    "generators.pdiff_linear": ("LinearParameterDiffusion",),
    "generators.reconstruction_check": ("ReconstructionCheck",),
    "generators.vae": ("VariationalAutoencoder",),
    "parameters.normaliser": ("Normaliser",),
    "parameters.spec": ("ParameterSpec",),
    "progress": ("silenced",),
    "runs.evaluate": ("Evaluation", "evaluate"),
    "runs.finished": ("Run",),
    "runs.functions": ("collect", "inspect", "report", "run", "score"),
    "tasks.configuration": ("make_task",),
    "tasks.task": ("Data", "Task"),
    "zoo.diagnostics": ("Inspection",),
    "zoo.score_filter": ("ScoreFilter",),
    "zoo.zoo": ("Record", "Zoo"),
}  # fmt: skip
"""Public names by the module that makes them; the imports for type checkers above say the same."""

MODULES = ("errors", "testing")
"""Public modules."""

_WHERE = {name: module for module, names in EXPORTS.items() for name in names}
__all__ = [name for names in (*EXPORTS.values(), MODULES) for name in names]


if not TYPE_CHECKING:  # a type checker would take every name for one of ours

    def __getattr__(name: str) -> object:
        if name in MODULES:
            return import_module(f"paramdiff.{name}")
        if name not in _WHERE:
            raise AttributeError(f"module 'paramdiff' has no attribute {name!r}")
        return getattr(import_module(f"paramdiff.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
