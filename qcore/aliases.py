"""Other names of architectures: what the paper and the field call them.

``resnet20`` to ``resnet110`` are CIFAR networks of basic blocks, 16 channels wide, or with ``-x2`` to ``-x10`` so many
times as wide (Section 5.2). The seven networks of Table 1, for images of ImageNet's size, have the table's names.
"""

from __future__ import annotations

import re

from qcore.errors import InvalidInput

CIFAR_DEPTHS, CIFAR_WIDTH, MOST_TIMES = (20, 32, 44, 56, 110), 16, 10
TABLE_1 = {
    "resnet18-x1.4": "imagenet-preact-L18-D90-B2.2.2.2",
    "resnet26-x1.1": "imagenet-preact-L26-D70-B3.3.3.3",
    "resnet34": "imagenet-preact-L34-D64-B3.4.6.3",
    "resnet44-x1.1": "imagenet-bottleneck-L44-D72-B3.4.5.2",
    "resnet50": "imagenet-bottleneck-L50-D64-B3.4.6.3",
    "resnet50-x1.3": "imagenet-bottleneck-L50-D85-B3.4.6.3",
    "resnet101": "imagenet-bottleneck-L101-D64-B3.4.23.3",
}
"""Unlike torchvision's networks of such names, the paper's have pre-activation blocks."""
CIFAR = {
    f"resnet{depth}{suffix}": f"basic-L{depth}-D{CIFAR_WIDTH * times}"
    for depth in CIFAR_DEPTHS
    for suffix, times in [("", 1), *((f"-x{times}", times) for times in range(1, MOST_TIMES + 1))]
}
ALIASES = CIFAR | TABLE_1

_ALIAS_LIKE = re.compile(r"resnet\d.*", re.ASCII | re.DOTALL)


def canonical_name(name: str) -> str:
    """The canonical name that an alias stands for; a text that looks like none as it is.

    Raises:
        InvalidInput: for a ``resnet...`` that is no alias.

    >>> canonical_name("resnet20-x2")
    'basic-L20-D32'
    """
    if name not in ALIASES and _ALIAS_LIKE.fullmatch(name):
        depths = ", ".join(map(str, CIFAR_DEPTHS))
        remedy = f"use resnet with {depths}, alone or with -x1 to -x{MOST_TIMES}; or {', '.join(TABLE_1)}"
        raise InvalidInput("architecture", name, "is not an alias", remedy)
    return ALIASES.get(name, name)
