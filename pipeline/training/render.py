"""Simulated pairs drawn at the batch: stored tissue shares in, CT in Hounsfield units and MR of any look out, on the device that trains.

Each stored head is drawn anew whenever it is asked for: by another scanner, sequence, position and file (domain randomisation, arXiv
2107.09559 and 2012.13340). Pure functions of shares, ranges and a generator; random numbers are drawn where the generator lives.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.phantom.shares import DEEPEST, DEPTH_STEP, MOST, TISSUES
from pipeline.phantom.tissues import Tissue
from pipeline.training import scanner
from pipeline.training.tissue_values import draw_settings, draw_signals, draw_units, normal, uniform

AIR = -1000.0  # HU
LOWEST, HIGHEST = -1024.0, 3071.0  # HU; what 12 bits hold
SOFTEST_BONE, COMPACT_BONE = 150.0, 500.0  # HU: where bone's weight in the loss begins, and where it is whole
FAR = 40.0  # mm from the inner table, for what lies outside the head


@dataclass(frozen=True)
class Looks:
    """How far the draws go. The values are those that the shipped recipe was measured with; another hospital has others."""

    free: float = 0.3  # share of MR looks that no sequence has
    strength: float = 1.0  # of all that scanners and files do; 0: clean pictures
    windowed: float = 0.5  # share of CT inputs of which only a display window is known, as in an 8-bit picture
    # HU that black and white of such a picture are taken for, where no file says its window; its own is then near it, but not it.
    # None: each file says its window, brain or wide.
    read_as: tuple[float, float] | None = None
    by_millimetres: float = 0.5  # share of pairs on a grid of fixed pixel size; the others are framed by their head, as pictures are
    field_of_view: float = 256.0  # mm a side of the grid of fixed pixel size
    margin: float = 0.04  # free border around a head that is framed by itself, share of its side
    turn: float = 7.0  # degrees; this and the next two are standard deviations
    scale: float = 0.05
    shift: float = 0.03  # share of half a side
    flip: bool = True  # half of the pairs left for right
    cleared: float = 0.85  # share of inputs in which what lies outside the head has been cleared away, as preprocessing does
    cut: float = 0.1  # share of inputs whose field of view ends inside the head
    lesion: float = 4.0  # weight of a lesion's pixels in the loss, beside 1 for the head
    outside: float = 0.3  # weight of pixels outside the head
    bone: float = 1.0  # weight of compact bone in the loss of MR→CT: MR hardly tells it from air, and L1 leaves out what is unlikely


class Heads(NamedTuple):
    """Stored heads of a batch: shares (N, CHANNELS, h, w) uint8 of `phantom.shares`, and where each head lies."""

    shares: Tensor
    box: Tensor  # (N, 3) float32: centre down and right of the grid's middle, and longer side, mm
    spacing: float  # mm a pixel of the grid


class Rendered(NamedTuple):
    """A batch of simulated pairs; pictures are (N, 1, S, S) float32."""

    ct: Tensor  # truth: HU without noise, air outside the head
    mr: Tensor  # truth: 0..1 by its percentiles inside the head, without shading, noise and ghosts
    ct_input: Tensor  # HU as a file shows them, clamped to `window`
    mr_input: Tensor  # 0..1
    window: Tensor  # (N, 2) HU: the file knows what lies between; at its ends "at most" and "at least"
    contrast: Tensor  # (N, 4): 1 at the contrast of mr and mr_input; zeros for a look without a name
    mask: Tensor  # 1 inside the head, 0 outside
    lesion: Tensor  # share of a lesion in each pixel, 0..1
    ct_weight: Tensor  # of each pixel in the loss of MR→CT, around 1
    mr_weight: Tensor  # of each pixel in the loss of CT→MR; all zeros for a look without a name, since no one can ask for it


def render(heads: Heads, pixels: int, looks: Looks, percentiles: tuple[float, float], random: torch.Generator) -> Rendered:
    """Pairs of `pixels` a side, drawn on the generator's device, where `heads` must lie.

    `percentiles` (0..100) of the intensities inside the head become 0 and 1 in MR, as in `preprocess.mr_percentiles`.
    """
    count = len(heads.shares)
    units = draw_units(count, random)
    signals, contrast = draw_signals(draw_settings(count, random), looks.free, random)
    frame = draw_frame(heads, looks, random)
    channels = resample(composite(heads, units, signals), frame, heads.spacing, pixels)
    ct, mr, lesion, mask, depth = channels.split(1, 1)
    ct, depth, mask = ct + AIR, depth + FAR, (mask > 0.5).float()
    ct = torch.where(mask > 0, ct, AIR)
    low, high = (percentile / 100 for percentile in percentiles)
    mr = mr * mask
    visible = _draw_view(mask, looks, random)
    stays = _draw_stays(mask, looks, random) * visible
    ct_input, window = _draw_ct_input(ct, depth, mask, stays, looks, random)
    mr_input = _draw_mr_input(mr, mask, stays, looks, (low, high), random)
    weight = (looks.outside + (1 - looks.outside) * mask + (looks.lesion - 1) * lesion) * visible
    bone = ((ct - SOFTEST_BONE) / (COMPACT_BONE - SOFTEST_BONE)).clamp(0, 1)
    named = contrast.sum(1).view(-1, 1, 1, 1)
    truth = scanner.stretch(mr, mask, low, high) * mask
    return Rendered(ct, truth, ct_input, mr_input, window, contrast, mask, lesion, weight * (1 + (looks.bone - 1) * bone), weight * named)


def composite(heads: Heads, units: Tensor, signals: Tensor) -> Tensor:
    """Channels (N, 5, h, w) on the stored grid: HU above air, MR signal, share of lesion, head, depth; all 0 far from the head.

    `units` and `signals` (N, T) are the tissues' values. Partial volume is linear, as in `phantom.shares.Shares.draw`.
    """
    shares = heads.shares
    count = len(shares)
    lesion = torch.zeros_like(units)
    lesion[:, Tissue.OEDEMA : Tissue.CAVITY + 1] = 1
    table = torch.stack([units - AIR, signals, lesion], 2).view(-1, 3)
    first = torch.arange(count, device=shares.device, dtype=torch.int32).view(-1, 1, 1, 1) * TISSUES
    place = (shares[:, :MOST].to(torch.int32) + first).permute(0, 2, 3, 1).reshape(-1, MOST)
    weight = shares[:, MOST : 2 * MOST].permute(0, 2, 3, 1).reshape(-1, MOST).float() * (1 / 255)
    pictures = functional.embedding_bag(place, table, mode="sum", per_sample_weights=weight)
    pictures = pictures.view(count, *shares.shape[2:], 3).permute(0, 3, 1, 2)
    code = shares[:, -1:]
    mask = (code > 0).float()
    depth = ((code.float() - 1) * DEPTH_STEP - DEEPEST - FAR) * mask
    return torch.cat([pictures, mask, depth], 1)


def draw_frame(heads: Heads, looks: Looks, random: torch.Generator) -> Tensor:
    """Maps (N, 2, 3) from the output grid, -1 to 1, to mm right and down of the stored grid's middle."""
    count, device = len(heads.shares), random.device
    fixed = uniform((count,), random) < looks.by_millimetres
    side = torch.where(fixed, looks.field_of_view, heads.box[:, 2] * (1 + 2 * looks.margin))
    angle = torch.deg2rad(looks.turn * normal((count,), random))
    across, down = ((1 + looks.scale * normal((count,), random)) * side / 2 for _ in range(2))
    if looks.flip:
        across = across * torch.where(uniform((count,), random) < 0.5, -1.0, 1.0)
    shift = looks.shift * normal((count, 2), random) * side.unsqueeze(1) / 2
    frame = torch.empty(count, 2, 3, device=device)
    frame[:, 0, 0], frame[:, 0, 1] = angle.cos() * across, -angle.sin() * down
    frame[:, 1, 0], frame[:, 1, 1] = angle.sin() * across, angle.cos() * down
    frame[:, 0, 2] = heads.box[:, 1] + shift[:, 0]
    frame[:, 1, 2] = heads.box[:, 0] + shift[:, 1]
    return frame


def resample(channels: Tensor, frame: Tensor, spacing: float, pixels: int) -> Tensor:
    """`channels` (N, C, h, w) of a grid of `spacing` mm at the points of `frame`, (N, C, pixels, pixels); 0 beyond the grid."""
    height, width = channels.shape[2:]
    half = torch.stack([torch.full_like(frame[:, 0], width * spacing / 2), torch.full_like(frame[:, 0], height * spacing / 2)], 1)
    grid = functional.affine_grid(frame / half, [len(channels), 1, pixels, pixels], align_corners=False)
    return functional.grid_sample(channels, grid, align_corners=False)


def _draw_view(mask: Tensor, looks: Looks, random: torch.Generator) -> Tensor:
    """1 where the field of view of the inputs reaches; in some pictures it ends inside the head, at one side."""
    count, _, height, width = mask.shape
    side = (4 * uniform((count, 1, 1, 1), random)).floor()
    ends = uniform((count, 1, 1, 1), random) < looks.cut
    place = 0.6 + 0.3 * uniform((count, 1, 1, 1), random)
    down = torch.linspace(-1, 1, height, device=mask.device).view(1, 1, -1, 1)
    across = torch.linspace(-1, 1, width, device=mask.device).view(1, 1, 1, -1)
    away = torch.where(side < 2, down * (1 - 2 * side), across * (5 - 2 * side))
    return 1 - (ends & (away > place)).float()


def _draw_stays(mask: Tensor, looks: Looks, random: torch.Generator) -> Tensor:
    """1 where inputs keep what they show. Well outside the head most are cleared, as preprocessing does: a halo of 3 % of a side stays."""
    reach = max(1, mask.shape[-1] // 48)
    near = mask
    for kernel, padding in (((2 * reach + 1, 1), (reach, 0)), ((1, 2 * reach + 1), (0, reach))):
        near = functional.max_pool2d(near, kernel, stride=1, padding=padding)
    everything = (uniform((len(mask), 1, 1, 1), random) >= looks.cleared).float()
    return torch.maximum(near, everything)


def _draw_ct_input(ct: Tensor, depth: Tensor, mask: Tensor, stays: Tensor, looks: Looks, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """CT as its file shows it, HU, and the window (N, 2) that the file knows."""
    count = len(ct)
    pictures = scanner.acquire_ct(ct, depth, mask, looks.strength, random)
    pictures = torch.where(stays > 0, pictures, AIR).clamp(LOWEST, HIGHEST)
    display = draw_windows(count, random, wide=looks.read_as is None)
    low, high = display.view(count, 2, 1, 1, 1).unbind(1)
    grey = scanner.squeeze(((pictures - low) / (high - low)).clamp(0, 1), 0.3 * looks.strength, random)
    known = display if looks.read_as is None else torch.stack([torch.full_like(display[:, 0], end) for end in looks.read_as], 1)
    low, high = known.view(count, 2, 1, 1, 1).unbind(1)
    whole = torch.stack([torch.full_like(display[:, 0], end) for end in (LOWEST, HIGHEST)], 1)
    windowed = uniform((count, 1), random) < looks.windowed
    picture = torch.where(windowed.view(-1, 1, 1, 1), low + grey * (high - low), pictures)
    picture = torch.where(stays > 0, picture, AIR)  # cleared away means air, also in a picture whose black is 0 HU
    return picture, torch.where(windowed, known, whole)


def draw_windows(count: int, random: torch.Generator, wide: bool = True) -> Tensor:
    """Lowest and highest HU (N, 2) that pictures show: a brain window, or now and then a wide one."""
    level, width = 38 + 5 * normal((count,), random), (85 + 14 * normal((count,), random)).clamp(50, 130)
    if wide:
        middling, bone = 60 + 60 * uniform((count,), random), 300 + 300 * uniform((count,), random)
        kind = uniform((count,), random)
        level = torch.where(kind < 0.75, level, torch.where(kind < 0.9, middling, bone))
        width = torch.where(kind < 0.75, width, torch.where(kind < 0.9, 3 * middling, 4.5 * bone))
    return torch.stack([level - width / 2, level + width / 2], 1)


def _draw_mr_input(mr: Tensor, mask: Tensor, stays: Tensor, looks: Looks, ends: tuple[float, float], random: torch.Generator) -> Tensor:
    """MR as its file shows it, brought to 0..1 as preprocessing does; `ends` are the shares of the head's pixels at 0 and 1."""
    (bright,) = scanner.percentiles(mr, mask, (ends[1],))
    pictures = scanner.acquire_mr(mr / bright.clamp_min(1e-4), mask, looks.strength, random) * stays
    pictures = scanner.stretch(pictures, mask, *ends)
    curve = torch.exp(0.2 * looks.strength * normal((len(mr), 1, 1, 1), random))
    gain = 1 + 0.08 * looks.strength * normal((len(mr), 1, 1, 1), random)
    pictures = (pictures.clamp_min(1e-4) ** curve * gain).clamp(0, 1)
    return scanner.squeeze(pictures, 0.3 * looks.strength, random)
