"""Other names of architectures: what the paper and the field call them.

``resnet20`` to ``resnet110`` are CIFAR networks of basic blocks, 16 channels wide, or with ``-x2`` to ``-x10`` so many
times as wide (Section 5.2). The seven networks of Table 1, for images of ImageNet's size, have the table's names.
"""

from __future__ import annotations

import re

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

_CIFAR = re.compile(r"resnet([1-9]\d{1,2})(?:-x([1-9]\d?))?", re.ASCII)


def canonical_name(name: str) -> str:
    """The canonical name that an alias stands for; any other text as it is.

    >>> canonical_name("resnet20-x2")
    'basic-L20-D32'
    """
    if name in TABLE_1:
        return TABLE_1[name]
    match = _CIFAR.fullmatch(name)
    if match is None or int(match[1]) not in CIFAR_DEPTHS or int(match[2] or 1) > MOST_TIMES:
        return name
    return f"basic-L{match[1]}-D{CIFAR_WIDTH * int(match[2] or 1)}"
