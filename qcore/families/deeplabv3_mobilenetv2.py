"""DeepLabV3 on MobileNetV2, output stride 16, without atrous spatial pyramid pooling (paper, Section 5.1).

The head is that of the TensorFlow model garden's ``mobilenetv2_coco_voc_trainaug`` and of the MobileNetV2 paper's
Table 7 (2.11 M parameters, 2.75 B MACs for 21 classes at 513x513).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcore.families.by_multiplier import ByMultiplier
from qcore.families.mobilenetv2 import FIRST_CHANNELS, WEIGHT_LAYERS, backbone
from qcore.layers import LayerList

if TYPE_CHECKING:
    from qcore.layers import Layer, Shape

OUTPUT_STRIDE = 16
HEAD_CHANNELS = 256
"""Of both branches and their projection, at every multiplier."""
LEAST_SIDE = 16


def expand(multiplier: float, input_shape: Shape, classes: int) -> tuple[Layer, ...]:
    """Logits of every pixel: (classes, height, width) of the input.

    Beside the features stands their mean over the whole image. Dropout is left out.
    """
    layers = LayerList()
    x = backbone(layers, input_shape, multiplier, first_stride=2, output_stride=OUTPUT_STRIDE)
    _, height, width = layers.shape(x)
    whole = _projection(layers, "image_level", layers.global_average_pool("image_level_pool", x))
    whole = layers.resize("image_level_resize", whole, height, width)
    x = layers.concat("concat", (whole, _projection(layers, "features", x)))
    x = _projection(layers, "joined", x)
    x = layers.conv("classifier", x, classes, kernel_size=1, bias=True)
    layers.resize("logits_resize", x, *input_shape[1:])
    return tuple(layers.layers)


def _projection(layers: LayerList, name: str, source: str) -> str:
    x = layers.conv(f"{name}_conv", source, HEAD_CHANNELS, kernel_size=1)
    return layers.relu(f"{name}_relu", layers.batch_norm(f"{name}_bn", x))


FAMILY = ByMultiplier("deeplabv3-mobilenetv2", WEIGHT_LAYERS + 3, FIRST_CHANNELS, LEAST_SIDE, expand)
