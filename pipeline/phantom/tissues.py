"""What heads are made of: Hounsfield units and MR relaxation of every tissue.

Sources, at 1.5 T. T1 of grey and white matter: Rooney et al., Magn Reson Med 57 (2007) 308; their T2, blood and muscle: Stanisz et
al., Magn Reson Med 54 (2005) 507. Fat: de Bazelaire et al.,
Radiology 230 (2004) 652. Fluid: Hopkins et al., Magn Reson Med 3 (1986) 303 (T1); T2 as BrainWeb and clinical fits give for slow
echo trains. Proton density relative to water: BrainWeb (Kwan et al., IEEE TMI 18 (1999) 1085). Oedema, tumour and infarct: the
ranges in Bottomley et al., Med Phys 14 (1987) 1. T1 after agent: 0.1 mmol/kg of a gadolinium chelate of relaxivity 4.5 /mM/s at
tissue concentrations of 0.3 to 1 mM. Hounsfield units: Bushberg et al., The Essential Physics of Medical Imaging; grey and white
matter 37 and 30 HU as in unenhanced brain CT. Growth of T1 with the field: between the 1.5 T and 3 or 4 T values of Rooney and of Stanisz
(grey 0.38, white 0.44, blood 0.42, muscle 0.49) and of de Bazelaire (fat 0.15); 0 for fluid. R2' of grey and white matter: Peters et
al., Magn Reson Imaging 25 (2007) 748.
"""

from enum import IntEnum
from typing import NamedTuple


class Tissue(IntEnum):
    """Labels of `Head.labels`. VOID is soft tissue near metal, of which MR shows nothing."""

    AIR = 0
    SKIN = 1
    FAT = 2
    MUSCLE = 3
    BONE = 4
    MARROW = 5
    CSF = 6
    GREY = 7
    WHITE = 8
    MUCOSA = 9
    VITREOUS = 10
    LENS = 11
    NERVE = 12
    DURA = 13
    SINUS_BLOOD = 14
    ARTERY = 15
    CALCIUM = 16
    OEDEMA = 17
    TUMOUR = 18
    RIM = 19
    NECROSIS = 20
    FRESH_BLOOD = 21
    OLD_BLOOD = 22
    INFARCT = 23
    SCAR = 24
    CAVITY = 25
    TOOTH = 26
    METAL = 27
    VOID = 28


class Properties(NamedTuple):
    """Hounsfield units; proton density relative to water; T1, T1 after contrast agent and T2 in ms at 1.5 T.

    T1 at another field is T1 times (field / 1.5 T) to the power `t1_growth`; `r2_prime` is 1/T2* - 1/T2 in 1/s at 1.5 T.
    """

    hu: float
    density: float
    t1: float
    t1_agent: float
    t2: float
    t1_growth: float
    r2_prime: float


PROPERTIES: dict[Tissue, Properties] = {
    Tissue.AIR: Properties(-1000, 0.0, 1000, 1000, 50, 0, 0),
    Tissue.SKIN: Properties(35, 0.65, 700, 600, 35, 0.35, 2),
    Tissue.FAT: Properties(-95, 0.95, 320, 320, 100, 0.15, 3),
    Tissue.MUSCLE: Properties(55, 0.78, 1000, 850, 44, 0.49, 2),
    Tissue.BONE: Properties(1300, 0.05, 700, 700, 15, 0.3, 20),
    Tissue.MARROW: Properties(420, 0.55, 480, 440, 55, 0.15, 8),
    Tissue.CSF: Properties(7, 1.0, 4200, 4200, 1500, 0, 0.5),
    Tissue.GREY: Properties(38, 0.84, 1188, 1110, 95, 0.38, 1.4),
    Tissue.WHITE: Properties(30, 0.72, 656, 640, 76, 0.44, 1.8),
    Tissue.MUCOSA: Properties(35, 0.9, 1300, 550, 170, 0.35, 8),
    Tissue.VITREOUS: Properties(8, 1.0, 4000, 4000, 1200, 0, 0.5),
    Tissue.LENS: Properties(75, 0.6, 1000, 1000, 30, 0.3, 2),
    Tissue.NERVE: Properties(32, 0.72, 680, 660, 78, 0.44, 3),
    Tissue.DURA: Properties(58, 0.45, 900, 450, 35, 0.35, 4),
    Tissue.SINUS_BLOOD: Properties(55, 0.35, 1400, 250, 40, 0.42, 6),
    Tissue.ARTERY: Properties(45, 0.12, 1440, 400, 30, 0.42, 2),
    Tissue.CALCIUM: Properties(350, 0.2, 900, 900, 25, 0.3, 40),
    Tissue.OEDEMA: Properties(20, 0.92, 1500, 1500, 190, 0.3, 1),
    Tissue.TUMOUR: Properties(34, 0.88, 1350, 500, 130, 0.35, 2),
    Tissue.RIM: Properties(43, 0.85, 1150, 330, 105, 0.35, 3),
    Tissue.NECROSIS: Properties(14, 0.96, 2200, 2000, 350, 0.2, 1),
    Tissue.FRESH_BLOOD: Properties(68, 0.85, 1050, 1050, 50, 0.4, 25),
    Tissue.OLD_BLOOD: Properties(38, 0.92, 380, 380, 180, 0.2, 12),
    Tissue.INFARCT: Properties(19, 0.92, 1450, 1400, 165, 0.3, 1),
    Tissue.SCAR: Properties(15, 0.95, 2000, 1900, 400, 0.2, 1),
    Tissue.CAVITY: Properties(8, 0.99, 3600, 3600, 1200, 0, 0.5),
    Tissue.TOOTH: Properties(1900, 0.03, 700, 700, 10, 0.3, 20),
    Tissue.METAL: Properties(6000, 0.0, 1000, 1000, 50, 0, 0),
    Tissue.VOID: Properties(36, 0.03, 1000, 1000, 20, 0, 0),
}

HU_SCATTER: dict[Tissue, float] = {tissue: 0.04 for tissue in Tissue} | {
    Tissue.AIR: 0.0,
    Tissue.BONE: 0.17,
    Tissue.MARROW: 0.3,
    Tissue.CALCIUM: 0.3,
    Tissue.TOOTH: 0.1,
    Tissue.METAL: 0.3,
}  # standard deviation of a tissue's Hounsfield units among people, relative to the tabled ones
