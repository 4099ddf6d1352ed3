"""List sizes of the published backbones for random weights: `network.text.shape` takes their names.

From the config.json of google/mt5-{small,base,large} and facebook/mbart-large-50. The paper trains mt5_base and
mbart50_large (Table 5).
"""

from dataclasses import dataclass
from typing import Any, Literal

from shards.batch.fields import PICTURE_SIDE

#: shape -> the keys of `TextConfig` that it stands for.
SHAPES: dict[str, dict[str, Any]] = {
    "mt5_small": {"architecture": "mt5", "d_model": 512, "d_ff": 1024, "d_kv": 64, "num_heads": 6, "num_layers": 8},
    "mt5_base": {"architecture": "mt5", "d_model": 768, "d_ff": 2048, "d_kv": 64, "num_heads": 12, "num_layers": 12},
    "mt5_large": {"architecture": "mt5", "d_model": 1024, "d_ff": 2816, "d_kv": 64, "num_heads": 16, "num_layers": 24},
    "mbart50_large": {"architecture": "mbart", "d_model": 1024, "d_ff": 4096, "num_heads": 16, "num_layers": 12},
}


#: What is read of an image.
VisualInputs = Literal["regions", "patches", "both"]
#: Kinds of visual tokens, in the order in which an encoder reads them.
KINDS: tuple[Literal["regions", "patches"], ...] = ("regions", "patches")
#: Pixels of a side of a patch, and patches of a picture: RC³ (Zhou et al., 2023), section 3.2.
PATCH_SIDE = 32
PATCHES = (PICTURE_SIDE // PATCH_SIDE) ** 2
#: Values of a patch: its pixels' red, green and blue.
PATCH_SIZE = 3 * PATCH_SIDE**2


@dataclass(frozen=True, kw_only=True, slots=True)
class VisualForm:
    """Visual tokens of an image that an encoder reads with a text."""

    regions: int  # 0: it reads no regions
    patches: int  # 0: it reads no patches

    @property
    def tokens(self) -> int:
        return self.regions + self.patches

    def of(self, kind: str) -> int:
        """Return the tokens of one of `KINDS`."""
        return self.regions if kind == "regions" else self.patches
