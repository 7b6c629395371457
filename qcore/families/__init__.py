"""Network families: how the networks of a block kind are named and sized, and their layers. One file each."""

from __future__ import annotations

from qcore.families import (
    basic,
    deeplabv3_mobilenetv2,
    depthwise,
    imagenet_bottleneck,
    imagenet_preact,
    mobilenetv2,
    plain,
    preact,
    residual,
)
from qcore.families.family import Family, Size

_FAMILIES: tuple[Family, ...] = (
    basic.FAMILY,
    preact.FAMILY,
    depthwise.FAMILY,
    plain.FAMILY,
    residual.FAMILY,
    mobilenetv2.FAMILY,
    imagenet_preact.FAMILY,
    imagenet_bottleneck.FAMILY,
    deeplabv3_mobilenetv2.FAMILY,
)

FAMILIES: dict[str, Family] = {family.block: family for family in _FAMILIES}

__all__ = ["FAMILIES", "Family", "Size"]
