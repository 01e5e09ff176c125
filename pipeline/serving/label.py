"""What a model says about itself."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Label:
    """What a model says about itself: shown beside every translation and written into DICOM tags.

    `name` such as mr-to-ct, `version` in the registry ("" for a folder), `digest` of its weights, `scores` on the test slices.
    """

    name: str
    version: str = ""
    digest: str = ""
    scores: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} {f'version {self.version}' if self.version else self.digest[:8]}"
