"""Training that goes on from generators trained before, such as the champion's: `train.start_from`."""

from pathlib import Path

from pipeline.errors import UserError
from pipeline.models.bundle import load_generator
from pipeline.models.cyclegan import CycleGAN


def take_generators(networks: CycleGAN, folder: Path) -> None:
    """Give `networks` the generators, and as their average, of a `folder` with model.json; discriminators and optimisers start afresh.

    Raises UserError when the folder holds none, or of another architecture than `model` in params.yaml.
    """
    for direction in networks.generators:
        weights = load_generator(folder, direction).state_dict()
        try:
            networks.generators[direction].load_state_dict(weights)
            networks.ema[direction].load_state_dict(weights)
        except RuntimeError:
            raise UserError(f"train.start_from = {folder}: its {direction} has another architecture than model in params.yaml") from None
