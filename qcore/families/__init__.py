"""Network families: how a block kind, a depth L and an initial width D become a list of layers. One file each."""

from __future__ import annotations

from qcore.families import basic, depthwise, plain, preact, residual
from qcore.families.family import Family

FAMILIES: dict[str, Family] = {
    family.block: family for family in (basic.FAMILY, preact.FAMILY, depthwise.FAMILY, plain.FAMILY, residual.FAMILY)
}

__all__ = ["FAMILIES", "Family"]
