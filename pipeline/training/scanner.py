"""What scanners and files do to simulated pictures, for a whole batch at once, in torch.

Pictures are (N, 1, H, W) float32. Each function draws its strengths for every line of the batch from `random` and computes where
`random` lives; none asks the device for a value, so none makes it wait.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.training.tissue_values import normal, uniform

REACH = 3  # pixels; blurs end here


def blur(pictures: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with a width of its own for each picture: `sigma` (N,) in pixels, up to about 1.5."""
    at = torch.arange(-REACH, REACH + 1, device=pictures.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (at / sigma.clamp_min(0.05).unsqueeze(1)) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    count = len(pictures)
    together = functional.pad(pictures.transpose(0, 1), (REACH, REACH, REACH, REACH), mode="replicate")  # a channel for each picture
    together = functional.conv2d(together, kernel.view(count, 1, -1, 1), groups=count)
    return functional.conv2d(together, kernel.view(count, 1, 1, -1), groups=count).transpose(0, 1)


def draw_field(shape: torch.Size, points: int, strength: Tensor, random: torch.Generator) -> Tensor:
    """Smooth random fields (N, 1, H, W) around 0 with `points` degrees of freedom a side; `strength` (N,) is their scatter."""
    coarse = normal((shape[0], 1, points, points), random) * strength.view(-1, 1, 1, 1)
    return functional.interpolate(coarse, shape[2:], mode="bicubic", align_corners=True)


def percentiles(pictures: Tensor, mask: Tensor, shares: tuple[Tensor | float, ...]) -> list[Tensor]:
    """Values (N, 1, 1, 1) below which these shares of the pixels inside `mask` lie, read from every second pixel of every second row."""
    values, inside = pictures[..., ::2, ::2].flatten(1), mask[..., ::2, ::2].flatten(1) > 0.5
    ordered = torch.where(inside, values, -math.inf).sort(1).values
    outside = (~inside).sum(1)
    last = ordered.shape[1] - 1
    values_at = []
    for share in shares:
        rank = (outside + share * (last - outside)).round().long().clamp(0, last)
        values_at.append(ordered.gather(1, rank.unsqueeze(1)).nan_to_num(0, 0, 0).view(-1, 1, 1, 1))
    return values_at


def stretch(pictures: Tensor, mask: Tensor, low: float, high: float) -> Tensor:
    """MR intensities as 0..1: the percentiles `low` and `high` (shares) of what lies inside `mask` become 0 and 1."""
    black, white = percentiles(pictures, mask, (low, high))
    return ((pictures - black) / (white - black).clamp_min(1e-4)).clamp(0, 1)


def acquire_mr(clean: Tensor, mask: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Magnitude pictures of tissue signals: shading by the coil, uneven tissue, fold-over, resolution, ghosts of motion, stripes, noise.

    `clean` in about 0..1. `strength` scales how far everything goes; 0 gives the signals back.
    """
    count, device = len(clean), clean.device
    shade = draw_field(clean.shape, 4, strength * (0.03 + 0.25 * uniform((count,), random)), random)
    grain = draw_field(clean.shape, 24, strength * 0.06 * uniform((count,), random), random)  # tissues are not all of a piece
    pictures = clean * shade.add_(grain).exp_()
    spectrum = torch.fft.fft2(_add_fold(pictures, strength, random))
    for axis, size in ((-2, clean.shape[-2]), (-1, clean.shape[-1])):
        frequency = torch.fft.fftfreq(size, device=device).abs() * 2
        cutoff = 1 - strength * 0.55 * uniform((count, 1), random) ** 2
        edge = 0.02 + 0.3 * uniform((count, 1), random)
        window = ((cutoff - frequency) / edge + 1).clamp(0, 1)
        spectrum = spectrum * window.view((count, 1, size, 1) if axis == -2 else (count, 1, 1, size))
    spectrum = _add_ghost(spectrum, strength, random)
    spectrum = _add_spike(spectrum, strength, random)
    signal = torch.fft.ifft2(spectrum)
    noise = strength * 0.004 * torch.exp(2.3 * uniform((count, 1, 1, 1), random))  # 0.4 to 4 % of the brightest tissue
    real = signal.real + noise * normal(clean.shape, random)
    imaginary = signal.imag + noise * normal(clean.shape, random)
    return torch.sqrt(real.square() + imaginary.square())


def _add_fold(pictures: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """What lies beyond a field of view that is too narrow, folded over to the other side of the picture; in 6 % of pictures."""
    count, _, height, width = pictures.shape
    amount = strength * (uniform((count, 1, 1, 1), random) < 0.06)
    view = 0.7 + 0.2 * uniform((count, 1), random)  # of the picture's side, along its rows
    at = torch.arange(height, device=pictures.device)
    folded = torch.zeros_like(pictures)
    for direction in (-1, 1):
        source = at + direction * (view * height).round().long()
        inside = ((source >= 0) & (source < height)).view(count, 1, height, 1)
        rows = source.clamp(0, height - 1).view(count, 1, height, 1).expand(-1, -1, -1, width)
        folded = folded + pictures.gather(2, rows) * inside
    return pictures + amount * folded


def _add_ghost(spectrum: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Phase errors that come and go along the phase-encoding axis, as pulsation and breathing make them; in 40 % of pictures."""
    count, height, width = len(spectrum), *spectrum.shape[2:]
    size = (strength * 0.25 * uniform((count, 1), random) ** 2) * (uniform((count, 1), random) < 0.4)
    cycles = 2 + 14 * uniform((count, 1), random)
    along_rows = (uniform((count, 1, 1, 1), random) < 0.7).float()

    def phase(length: int) -> Tensor:
        at = torch.arange(length, device=spectrum.device) / length
        return size * torch.sin(2 * math.pi * cycles * at)

    total = along_rows * phase(height).view(count, 1, height, 1) + (1 - along_rows) * phase(width).view(count, 1, 1, width)
    return spectrum * torch.polar(torch.ones_like(total), total)


def _add_spike(spectrum: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """One spoiled point of k-space: faint stripes all over the picture; in 8 % of pictures."""
    count, height, width = len(spectrum), *spectrum.shape[2:]
    size = strength * 0.06 * uniform((count,), random) * (uniform((count,), random) < 0.08)
    row, column = ((uniform((count,), random) * side).long().clamp_max(side - 1) for side in (height, width))
    place = row * width + column
    value = (size * height * width).unsqueeze(1).to(spectrum.dtype)
    return spectrum.flatten(1).scatter_add(1, place.unsqueeze(1), value).view(spectrum.shape)


def acquire_ct(clean: Tensor, depth: Tensor, mask: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Hounsfield units as a scanner gives them: brightening under the skull, streaks, resolution of the kernel, noise, head rest.

    `clean` in HU; `depth` in mm to the inner table, negative inside the cranium. `strength` 0 gives the clean picture back.
    """
    count = len(clean)
    inside = (depth < 1).float()
    reach = 4 + 8 * uniform((count, 1, 1, 1), random)
    cup = strength * 8 * uniform((count, 1, 1, 1), random) * torch.exp(-(-depth).clamp_min(0) / reach) * inside
    pictures = clean + cup + strength * _draw_streaks(clean, mask, random)
    pictures = blur(pictures, strength * (0.2 + 0.6 * uniform((count,), random)))
    noise = blur(normal(clean.shape, random), 0.2 + 0.6 * uniform((count,), random))
    noise = noise / noise.std((1, 2, 3), keepdim=True).clamp_min(1e-3)
    level = strength * torch.exp(2.4 * uniform((count, 1, 1, 1), random))  # 1 to 11 HU
    return add_head_rest(pictures, mask, strength, random) + noise * level


def _draw_streaks(clean: Tensor, mask: Tensor, random: torch.Generator) -> Tensor:
    """Rays of light and dark from where it is densest: strong from metal and teeth, faint from bone, HU."""
    count, _, height, width = clean.shape
    dense = (clean - 1900).clamp_min(0)
    amount = dense.sum((1, 2, 3)) + 1e-3
    down, across = _positions(height, clean.device).view(-1, 1), _positions(width, clean.device).view(1, -1)
    centre_y, centre_x = ((dense * at).sum((1, 2, 3)) / amount for at in (down, across))
    y, x = down - centre_y.view(-1, 1, 1, 1), across - centre_x.view(-1, 1, 1, 1)
    angle = torch.atan2(y, x)
    rays = torch.zeros_like(clean)
    for order in (2, 4, 7, 12, 19):
        rays = rays + normal((count, 1, 1, 1), random) * torch.cos(order * angle + 2 * math.pi * uniform((count, 1, 1, 1), random))
    fall = torch.exp(-torch.sqrt(y * y + x * x) / (0.15 + 0.5 * uniform((count, 1, 1, 1), random)))
    metal = 1 - torch.exp(-amount.view(-1, 1, 1, 1) / 4000)
    return rays * fall * mask * metal * 120 * uniform((count, 1, 1, 1), random)


def add_head_rest(pictures: Tensor, mask: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """The scanner's head rest in four of five pictures: an arc behind the head, outside of it."""
    count, _, height, width = pictures.shape
    down, across = _positions(height, pictures.device).view(-1, 1), _positions(width, pictures.device).view(1, -1)
    back = torch.where(mask > 0.5, down, -1.0).amax((1, 2, 3))
    radius = 0.8 + 0.4 * uniform((count,), random)
    centre = (back + 0.02 + 0.15 * uniform((count,), random) - radius).view(-1, 1, 1, 1)
    y, x = down - centre, across - 0.04 * normal((count, 1, 1, 1), random)
    thick = (0.006 + 0.012 * uniform((count,), random)).view(-1, 1, 1, 1)
    distance = (torch.sqrt(y * y + x * x) - radius.view(-1, 1, 1, 1)).abs() - thick
    opacity = (
        (0.5 - distance * (height / 2)).clamp(0, 1) * (y > 0) * (x.abs() < y * torch.tan(0.7 + 0.6 * uniform((count, 1, 1, 1), random)))
    )
    there = strength * (uniform((count, 1, 1, 1), random) < 0.8) * (1 - mask)
    value = 60 + 340 * uniform((count, 1, 1, 1), random)
    return pictures + opacity * there * (value - pictures) * (pictures < -500)


def squeeze(pictures: Tensor, share: float, random: torch.Generator) -> Tensor:
    """Blocks as JPEG leaves them, in this share of pictures of 0..1: the cosine transform of 4 × 4 pixels, rounded coarsely.

    Files have blocks of 8 on two to four times as many pixels as the networks see.
    """
    block = 4
    count, _, height, width = pictures.shape
    n = torch.arange(block, device=pictures.device, dtype=torch.float32)
    basis = torch.cos(math.pi * (2 * n + 1) * n.view(-1, 1) / (2 * block)) * math.sqrt(2 / block)
    basis = basis * torch.where(n == 0, math.sqrt(0.5), 1.0).view(-1, 1)
    parts = pictures.view(count, height // block, block, width // block, block)
    spectrum = torch.einsum("ui,nhiwj,vj->nhuwv", basis, parts, basis)
    step = (0.01 + 0.06 * uniform((count, 1, 1, 1, 1), random)) * (0.5 + n.view(-1, 1, 1) + n.view(1, 1, -1))
    rounded = torch.round(spectrum / step) * step
    result = torch.einsum("ui,nhuwv,vj->nhiwj", basis, rounded, basis).reshape(pictures.shape).clamp(0, 1)
    return torch.where(uniform((count, 1, 1, 1), random) < share, result, pictures)


def _positions(length: int, device: torch.device) -> Tensor:
    """Pixel centres from -1 to 1."""
    return (torch.arange(length, device=device, dtype=torch.float32) + 0.5) * (2 / length) - 1
