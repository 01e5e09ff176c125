"""What each tissue of each simulated head measures in a batch, drawn in torch on the device that trains.

The equations and tables are those of `pipeline/phantom`, which has them in plain numpy; a test holds the two together. Beside the named
contrasts, looks are drawn that no scanner has (arXiv 2107.09559, 2012.13340), so that MR→CT learns anatomy and not a sequence.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.domain import CONTRASTS, Contrast
from pipeline.phantom.sequences import ECHOES, EQUATIONS, FAT_LEFT, FATTY, FIELDS, PROTOCOLS
from pipeline.phantom.tissues import HU_SCATTER, PROPERTIES, Properties, Tissue

SCANNER = (0.0, 0.05, 0.08, 0.08)  # scatter of density, T1, T1 with agent and T2 that all tissues of a head share
EACH = (0.03, 0.05, 0.1, 0.05)  # scatter that each tissue has of its own; both are of the logarithm
DARK = (Tissue.BONE, Tissue.CALCIUM)  # never bright, in no look


class Settings(NamedTuple):
    """MR acquisitions, one a line: (N,) each; times in ms, `flip` in degrees, `equation` an index into EQUATIONS."""

    equation: Tensor
    tr: Tensor
    te: Tensor
    ti: Tensor
    flip: Tensor
    spacing: Tensor
    agent: Tensor
    field: Tensor
    fat: Tensor  # share of the signal of fat that is left
    contrast: Tensor  # (N, len(CONTRASTS)): 1 at the name, zeros for a look without


class Tables(NamedTuple):
    """Properties of the tissues, (T,) each, and of the protocols, (P, …)."""

    hu: Tensor
    hu_scatter: Tensor
    density: Tensor
    t1: Tensor
    t1_agent: Tensor
    t2: Tensor
    t1_growth: Tensor
    r2_prime: Tensor
    share: Tensor
    low: Tensor  # (P, 5): TR, TE, TI, flip, spacing
    high: Tensor
    equation: Tensor
    agent: Tensor
    suppressed: Tensor
    contrast: Tensor
    fatty: Tensor  # (T,): 1 for tissues that fat suppression darkens
    bright: Tensor  # (T,): the brightest that a free look may show the tissue


@lru_cache(maxsize=8)
def tables(device: torch.device) -> Tables:
    """The tables of `pipeline/phantom` as tensors; copied to `device` once."""
    fatty, bright = torch.zeros(len(Tissue)), torch.ones(len(Tissue))
    fatty[list(FATTY)], bright[list(DARK)] = 1, 0.25
    properties = torch.tensor([PROPERTIES[tissue] for tissue in Tissue], dtype=torch.float32)
    by_name = dict(zip(Properties._fields, properties.T, strict=True))
    bright[by_name["density"] == 0] = 0
    ranges = torch.tensor([[p.tr, p.te, p.ti, p.flip, p.spacing] for p in PROTOCOLS], dtype=torch.float32)
    by_name |= {name: torch.tensor([float(getattr(p, name)) for p in PROTOCOLS]) for name in ("share", "agent", "suppressed")}
    by_name |= {
        "hu_scatter": torch.tensor([HU_SCATTER[tissue] for tissue in Tissue]),
        "fatty": fatty,
        "bright": bright,
        "low": ranges[..., 0],
        "high": ranges[..., 1],
        "equation": torch.tensor([EQUATIONS.index(p.equation) for p in PROTOCOLS]),
        "contrast": torch.tensor([[float(p.contrast is contrast) for contrast in CONTRASTS] for p in PROTOCOLS]),
    }
    return Tables(**{name: part.to(device) for name, part in by_name.items()})


def draw_settings(count: int, random: torch.Generator) -> Settings:
    """Acquisitions as `phantom.sequences.draw_sequence` draws them, looks without a name among them."""
    table = tables(random.device)
    protocol = torch.multinomial(table.share, count, replacement=True, generator=random)
    low, high = table.low[protocol], table.high[protocol]
    tr, te, ti, flip, spacing = (low + (high - low) * uniform((count, 5), random)).unbind(1)
    contrast = table.contrast[protocol]
    fluid = table.t1[Tissue.CSF]
    null = fluid * (torch.log(torch.full_like(fluid, 2)) - torch.log1p(torch.exp(-tr / fluid)))
    flair = contrast[:, CONTRASTS.index(Contrast.FLAIR)] > 0
    agent = uniform((count,), random) < table.agent[protocol]
    field = torch.where(uniform((count,), random) < 0.5, FIELDS[0], FIELDS[1])
    left = FAT_LEFT[0] + (FAT_LEFT[1] - FAT_LEFT[0]) * uniform((count,), random)
    fat = torch.where(uniform((count,), random) < table.suppressed[protocol], left, 1.0)
    ti = torch.where(flair, ti * null, ti)
    return Settings(table.equation[protocol], tr, te, ti, flip, spacing, agent, field, fat, contrast)


def draw_units(count: int, random: torch.Generator) -> Tensor:
    """Hounsfield units (N, T), scattered as `phantom.signal.draw_units` scatters them."""
    table = tables(random.device)
    units = table.hu * torch.exp(table.hu_scatter * normal((count, len(Tissue)), random))
    level, contrast = 34 + 1.5 * normal((count,), random), 3.2 * (0.5 + uniform((count,), random))
    units[:, Tissue.GREY], units[:, Tissue.WHITE] = level + contrast, level - contrast
    units[:, Tissue.CSF] = 7 + 2.5 * normal((count,), random)
    return units


def draw_signals(settings: Settings, free: float, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """MR signals (N, T) under `settings`, tissues scattered, and the contrast's name (N, len(CONTRASTS)).

    A share `free` of the lines goes some or all of the way to signals drawn without any physics; these have no name.
    """
    count = len(settings.tr)
    signals = compute_signals(settings, _scatter(count, random))
    signals = signals / signals.amax(1, keepdim=True).clamp_min(1e-6)
    loose = (uniform((count, 1), random) < free).float()
    share = loose * (0.3 + 0.7 * uniform((count, 1), random))
    drawn = uniform(signals.shape, random) * tables(random.device).bright
    return torch.lerp(signals, drawn, share), settings.contrast * (1 - loose)


def compute_signals(settings: Settings, scatter: Tensor | None = None) -> Tensor:
    """Signals (N, T) of all tissues under `settings`; `scatter` (4, N, T) are factors of density, T1, T1 with agent and T2."""
    table = tables(settings.tr.device)
    tr, te, ti, flip, spacing, field = (value.unsqueeze(1) for value in (*settings[1:6], settings.field))
    factors = torch.ones(4, 1, 1, device=tr.device) if scatter is None else scatter
    grown = table.t1 * (field / FIELDS[0]) ** table.t1_growth
    with_agent = 1 / (1 / grown + (1 / table.t1_agent - 1 / table.t1))
    t1 = torch.where(settings.agent.unsqueeze(1), with_agent * factors[2], grown * factors[1])
    t2 = table.t2 * factors[3]
    decay = torch.exp(-te / t2)
    star = decay * torch.exp(-te * table.r2_prime * field / (1000 * FIELDS[0]))
    angle = torch.deg2rad(flip)
    long = torch.exp(-tr / t1)
    echo = torch.exp(-(tr - te / 2) / t1)
    by_equation = {
        "spin_echo": (1 - 2 * echo + long).abs() * decay,
        "inversion_recovery": (1 - 2 * torch.exp(-ti / t1) + 2 * echo - long).abs() * decay,
        "gradient_echo": angle.sin() * (1 - long) / (1 - long * angle.cos()) * star,
        "mprage": _mprage(t1, tr, ti, angle, spacing) * star,
    }
    every = torch.stack([by_equation[name] for name in EQUATIONS])
    chosen = settings.equation.view(1, -1, 1).expand(1, -1, every.shape[2])
    left = 1 - table.fatty * (1 - settings.fat.unsqueeze(1))
    return table.density * factors[0] * every.gather(0, chosen)[0] * left


def _mprage(t1: Tensor, tr: Tensor, ti: Tensor, angle: Tensor, spacing: Tensor) -> Tensor:
    """Transverse magnetisation in the middle of the train; see `phantom.sequences.mprage`."""
    half = ECHOES // 2
    recovery = torch.exp(-spacing / t1)
    decay = angle.cos() * recovery
    level = (1 - recovery) / (1 - decay).clamp_min(1e-6)
    before, after = torch.exp(-(ti - half * spacing) / t1), torch.exp(-(tr - ti - half * spacing) / t1)
    to_middle = decay**half
    to_end = to_middle * to_middle
    start = 1 - before
    end = start * to_end + level * (1 - to_end)
    steady = (1 - after + end * after) / (1 + before * to_end * after)
    return angle.sin() * ((start - before * steady) * to_middle + level * (1 - to_middle)).abs()


def _scatter(count: int, random: torch.Generator) -> Tensor:
    """Factors (4, N, T) of density, T1, T1 with agent and T2."""
    scatter = zip(SCANNER, EACH, strict=True)
    parts = [shared * normal((count, 1), random) + own * normal((count, len(Tissue)), random) for shared, own in scatter]
    return torch.exp(torch.stack(parts))


def uniform(shape: tuple[int, ...] | torch.Size, random: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=random, device=random.device)


def normal(shape: tuple[int, ...] | torch.Size, random: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=random, device=random.device)
