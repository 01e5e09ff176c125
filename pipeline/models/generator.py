"""Generators as in CycleGAN (arXiv 1703.10593, after Johnson et al., arXiv 1603.08155): convolutions, residual blocks, upsampling."""

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline import params
from pipeline.models.layers import modulated, norm, upsample
from pipeline.models.thin import ThinConv2d
from pipeline.models.unet import UNet
from pipeline.models.winograd import WideConv2d

CONTRASTS = ("t1", "t2", "flair", "pd")
BLOCKS = {"resnet_6": 6, "resnet_9": 9}
HALVINGS = {"unet_128": 7, "unet_256": 8}


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with norm, added to the input. The contrast scales and shifts what the first norm leaves.

    Conditional instance normalisation (arXiv 1610.07629). As constant input planes the contrast would be lost: instance norm takes out
    whatever is constant over the picture.
    """

    def __init__(self, width: int, conditions: int, norms: str) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.ReflectionPad2d(1), WideConv2d(width, width, 3), norm(norms, width))
        self.second = nn.Sequential(nn.ReLU(), nn.ReflectionPad2d(1), WideConv2d(width, width, 3), norm(norms, width))
        self.modulate = nn.Linear(conditions, 2 * width, bias=False) if conditions else None

    def forward(self, hidden: Tensor, condition: Tensor | None) -> Tensor:
        between = modulated(self.first(hidden), self.modulate, condition)
        result: Tensor = hidden + self.second(between)
        return result


class ResidualGenerator(nn.Module):
    """Maps (N, 1, H, W) in [-1, 1] to the same; `condition` (N, 4) is a probability of each MR contrast, zeros where unknown."""

    def __init__(self, blocks: int, width: int, conditions: int, norms: str, upsampling: str) -> None:
        super().__init__()
        self.conditions = conditions
        relu = nn.ReLU
        self.encode = nn.Sequential(
            nn.ReflectionPad2d(3), ThinConv2d(1, width, 7), norm(norms, width), relu(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), norm(norms, 2 * width), relu(),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1), norm(norms, 4 * width), relu(),
        )  # fmt: skip
        self.blocks = nn.ModuleList(ResidualBlock(4 * width, conditions, norms) for _ in range(blocks))
        self.decode = nn.Sequential(
            upsample(upsampling, 4 * width, 2 * width, 3), norm(norms, 2 * width), relu(),
            upsample(upsampling, 2 * width, width, 3), norm(norms, width), relu(),
            nn.ReflectionPad2d(3), ThinConv2d(width, 1, 7), nn.Tanh(),
        )  # fmt: skip

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        known = condition.to(image) if self.conditions and condition is not None else None
        hidden = self.encode(image)
        for block in self.blocks:
            hidden = block(hidden, known)
        result: Tensor = self.decode(hidden)
        return result


Generator = ResidualGenerator | UNet


def build_generator(model: params.Model, direction: str) -> Generator:
    """The generator of `direction`, initialised by PyTorch's defaults; only CT→MR takes the contrast."""
    conditions = len(CONTRASTS) if model.condition_on_contrast and direction == "ct_to_mr" else 0
    choices = (model.generator_width, conditions, model.norm, model.upsampling)
    if model.generator in HALVINGS:
        return UNet(HALVINGS[model.generator], *choices)
    return ResidualGenerator(BLOCKS[model.generator], *choices)


def save_weights(path: Path, module: nn.Module) -> None:
    """Write the weights of `module` as safetensors, on the CPU and contiguous, so that the same weights give the same bytes."""
    save_file({name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}, path)
    path.chmod(0o644)  # safetensors leaves it for nobody else to read
