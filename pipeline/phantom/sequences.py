"""MR sequences as scanners run them, and the signal that a tissue gives under each; times in ms, angles in degrees.

    spin echo           S = PD |1 - 2 exp(-(TR - TE/2)/T1) + exp(-TR/T1)| exp(-TE/T2)
    inversion recovery  S = PD |1 - 2 exp(-TI/T1) + 2 exp(-(TR - TE/2)/T1) - exp(-TR/T1)| exp(-TE/T2)
    gradient echo       S = PD sin(a) (1 - E) / (1 - E cos(a)) exp(-TE/T2*),  E = exp(-TR/T1), spoiled

(Bernstein, King, Zhou, Handbook of MRI Pulse Sequences, 2004, chapters 14.1 to 14.3; magnitude reconstruction.) MPRAGE is an
inversion, a delay, a train of spoiled gradient echoes and a pause; its steady state is solved as in Marques et al., NeuroImage 49
(2010) 1271, appendix, with one train in place of two, and the signal is that of the train's middle. T2* comes from
1/T2* = 1/T2 + R2', where R2' grows with the field.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.domain import CONTRASTS, Contrast
from pipeline.phantom.tissues import PROPERTIES, Properties, Tissue

Equation = Literal["spin_echo", "inversion_recovery", "gradient_echo", "mprage"]
EQUATIONS: tuple[Equation, ...] = ("spin_echo", "inversion_recovery", "gradient_echo", "mprage")
Range = tuple[float, float]
FIELDS = (1.5, 3.0)  # tesla, each as likely as the other
ECHOES = 160  # excitations of an MPRAGE train
FATTY = (Tissue.FAT, Tissue.MARROW)
FAT_LEFT = (0.05, 0.4)  # of their signal, where it is suppressed


@dataclass(frozen=True)
class Protocol:
    """A kind of acquisition and the ranges that its settings are drawn from."""

    contrast: Contrast | None  # None: a look that has no name among the contrasts
    equation: Equation
    share: float  # how often, relative to the others
    tr: Range  # MPRAGE: from inversion to inversion
    te: Range
    ti: Range = (0.0, 0.0)  # FLAIR: as a share of the time at which fluid gives no signal
    flip: Range = (90.0, 90.0)
    spacing: Range = (0.0, 0.0)  # MPRAGE: from excitation to excitation
    agent: float = 0.0  # share that is acquired after contrast agent
    suppressed: float = 0.0  # share in which fat is suppressed


PROTOCOLS = (
    Protocol(Contrast.T1, "spin_echo", 14, tr=(400, 700), te=(8, 18), agent=0.45, suppressed=0.2),
    Protocol(Contrast.T1, "inversion_recovery", 5, tr=(2100, 2600), te=(3, 14), ti=(920, 1080), agent=0.45),
    Protocol(Contrast.T1, "mprage", 10, tr=(1900, 3000), te=(2.2, 4.6), ti=(750, 1100), flip=(7, 12), spacing=(6, 9), agent=0.3),
    Protocol(Contrast.T1, "gradient_echo", 4, tr=(7, 30), te=(1.8, 6), flip=(12, 30), agent=0.4),
    Protocol(Contrast.T1, "gradient_echo", 4, tr=(150, 300), te=(1.8, 6), flip=(60, 90), agent=0.4, suppressed=0.2),
    Protocol(Contrast.T2, "spin_echo", 33, tr=(2800, 6000), te=(80, 125), suppressed=0.2),
    Protocol(Contrast.FLAIR, "inversion_recovery", 18, tr=(5000, 10500), te=(85, 130), ti=(0.92, 1.08), suppressed=0.35),
    Protocol(Contrast.PD, "spin_echo", 8, tr=(2500, 4500), te=(12, 30), suppressed=0.3),
    Protocol(None, "gradient_echo", 4, tr=(500, 900), te=(15, 28), flip=(15, 30), suppressed=0.1),
)


@dataclass(frozen=True)
class Sequence:
    """One acquisition: its settings, the field in tesla, and whether contrast agent was given."""

    contrast: Contrast
    equation: Equation
    tr: float
    te: float
    ti: float = 0.0
    flip: float = 90.0
    spacing: float = 0.0
    agent: bool = False
    field: float = 1.5
    fat: float = 1.0  # share of the signal of fat that is left where it is suppressed


def draw_sequence(g: np.random.Generator, contrast: str | None = None) -> Sequence:
    """An acquisition of `contrast` (any, if None), its settings drawn from what scanners use.

    Raises ValueError on a word that is no contrast.
    """
    if contrast is not None and contrast not in CONTRASTS:
        raise ValueError(f"contrast = {contrast!r}: expected one of {', '.join(CONTRASTS)}")
    named = [(protocol.contrast, protocol) for protocol in PROTOCOLS if protocol.contrast is not None]
    fitting = [(name, protocol) for name, protocol in named if contrast in (None, name)]
    shares = np.array([protocol.share for _, protocol in fitting])
    name, protocol = fitting[int(g.choice(len(fitting), p=shares / shares.sum()))]
    return draw_settings(protocol, name, g)


def draw_settings(protocol: Protocol, name: Contrast, g: np.random.Generator) -> Sequence:
    """An acquisition of one kind, its settings drawn from the kind's ranges; `name` is what it is weighted by."""
    ranges = (protocol.tr, protocol.te, protocol.ti, protocol.flip, protocol.spacing)
    tr, te, ti, flip, spacing = (float(g.uniform(*limits)) for limits in ranges)
    if name is Contrast.FLAIR:
        ti *= null_time(tr, PROPERTIES[Tissue.CSF].t1)
    field = float(g.choice(FIELDS))
    agent = bool(g.random() < protocol.agent)
    fat = float(g.uniform(*FAT_LEFT)) if g.random() < protocol.suppressed else 1.0
    return Sequence(name, protocol.equation, tr, te, ti, flip, spacing, agent, field, fat)


def null_time(tr: float, t1: float) -> float:
    """Inversion time at which a tissue of `t1` gives no signal."""
    return float(t1 * (np.log(2) - np.log1p(np.exp(-tr / t1))))


def spin_echo(density: float, t1: float, t2: float, tr: float, te: float) -> float:
    """Signal of a spin echo, 0..density."""
    longitudinal = 1 - 2 * np.exp(-(tr - te / 2) / t1) + np.exp(-tr / t1)
    return float(density * abs(longitudinal) * np.exp(-te / t2))


def inversion_recovery(density: float, t1: float, t2: float, tr: float, te: float, ti: float) -> float:
    """Magnitude signal of an inversion recovery spin echo, 0..density."""
    longitudinal = 1 - 2 * np.exp(-ti / t1) + 2 * np.exp(-(tr - te / 2) / t1) - np.exp(-tr / t1)
    return float(density * abs(longitudinal) * np.exp(-te / t2))


def gradient_echo(density: float, t1: float, t2_star: float, tr: float, te: float, flip: float) -> float:
    """Signal of a spoiled gradient echo, 0..density."""
    angle, recovery = np.deg2rad(flip), np.exp(-tr / t1)
    return float(density * np.sin(angle) * (1 - recovery) / (1 - recovery * np.cos(angle)) * np.exp(-te / t2_star))


def mprage(density: float, t1: float, t2_star: float, tr: float, te: float, ti: float, flip: float, spacing: float) -> float:
    """Magnitude signal of MPRAGE, 0..density; `ti` from the inversion to the middle of the train, which must fit into `tr`."""
    angle, half = np.deg2rad(flip), ECHOES // 2
    recovery = np.exp(-spacing / t1)
    decay, level = np.cos(angle) * recovery, (1 - recovery) / (1 - np.cos(angle) * recovery)
    before, after = np.exp(-(ti - half * spacing) / t1), np.exp(-(tr - ti - half * spacing) / t1)
    # Longitudinal magnetisation before the inversion as an affine function of itself one period earlier: m = gain m + offset.
    start_gain, start_offset = -before, 1 - before
    end_gain, end_offset = start_gain * decay**ECHOES, start_offset * decay**ECHOES + level * (1 - decay**ECHOES)
    steady = (1 - after + end_offset * after) / (1 - end_gain * after)
    middle = (start_gain * steady + start_offset) * decay**half + level * (1 - decay**half)
    return float(density * np.sin(angle) * abs(middle) * np.exp(-te / t2_star))


def at_field(tissue: Properties, field: float) -> Properties:
    """The tissue at `field` tesla: T1 grows by its power law, what contrast agent adds to 1/T1 stays, R2' grows with the field."""
    t1 = tissue.t1 * (field / 1.5) ** tissue.t1_growth
    t1_agent = 1 / (1 / t1 + 1 / tissue.t1_agent - 1 / tissue.t1)
    return tissue._replace(t1=t1, t1_agent=t1_agent, r2_prime=tissue.r2_prime * field / 1.5)


def compute_signal(tissue: Properties, sequence: Sequence) -> float:
    """Signal of one tissue, given at the sequence's field, under `sequence`."""
    t1 = tissue.t1_agent if sequence.agent else tissue.t1
    t2_star = 1 / (1 / tissue.t2 + tissue.r2_prime / 1000)
    if sequence.equation == "spin_echo":
        return spin_echo(tissue.density, t1, tissue.t2, sequence.tr, sequence.te)
    if sequence.equation == "inversion_recovery":
        return inversion_recovery(tissue.density, t1, tissue.t2, sequence.tr, sequence.te, sequence.ti)
    if sequence.equation == "gradient_echo":
        return gradient_echo(tissue.density, t1, t2_star, sequence.tr, sequence.te, sequence.flip)
    return mprage(tissue.density, t1, t2_star, sequence.tr, sequence.te, sequence.ti, sequence.flip, sequence.spacing)
