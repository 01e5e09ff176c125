"""What generators are made of, by params: sizes that the torch networks and their ONNX graphs share. Needs neither."""

from pipeline.domain import CONTRASTS, Direction
from pipeline.params import Model

BLOCKS = {"resnet_6": 6, "resnet_9": 9}
HALVINGS = {"unet_128": 7, "unet_256": 8}
WIDEST = 8  # a U-Net's feature maps grow with depth up to this many times the first layer's


def count_conditions(model: Model, direction: str) -> int:
    """Entries of the contrast vector that the generator of `direction` takes; 0 where it takes none. Only CT→MR can."""
    return len(CONTRASTS) if model.condition_on_contrast and direction == Direction.CT_TO_MR else 0


def unet_widths(depth: int, width: int) -> list[int]:
    """Feature maps on each level of a U-Net, from the picture down."""
    return [width * min(2**level, WIDEST) for level in range(depth)]
