"""What is computed in 8 bits, and what is not."""

import numpy as np
import pytest

from diptych.engines.converted import PATCHES_OUTPUT
from diptych.engines.graph import image_graph
from diptych.engines.openvino_runtime import openvino
from diptych.engines.quantization import quantised
from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig, EfficientNetConfig
from diptych.nets.presets import preset

pytest.importorskip("nncf")


@pytest.mark.filterwarnings("ignore")
def test_depthwise_kernels_stay_out_of_8_bits() -> None:
    text = preset("efficientnet-tiny").text
    config = CLIPConfig(16, EfficientNetConfig(32, 0.25, 0.3, 16, 1, 0, 0), text)
    arrays = {name: tensor.numpy() for name, tensor in CLIP(config).eval().state_dict().items()}
    pixels = np.random.default_rng(0).integers(256, size=(2, 1, 32, 32, 3), dtype=np.uint8)
    graph = quantised(image_graph(config, arrays, Preprocess(32)), list(pixels), "plain")

    def is_quantised(node: openvino.Node) -> bool:
        kernel = node.input_value(1).get_node()
        while kernel.get_type_name() != "Constant":
            kernel = kernel.input_value(0).get_node()
        return kernel.get_element_type().is_integral()

    nodes = [node for node in graph.get_ops() if node.get_type_name().endswith("Convolution")]
    depthwise = [node for node in nodes if node.get_type_name() == "GroupConvolution"]
    assert len(depthwise) == len(config.image.blocks)
    assert not any(map(is_quantised, depthwise))
    assert sum(map(is_quantised, nodes)) > len(depthwise)


@pytest.mark.filterwarnings("ignore")
def test_patches_are_computed_in_8_bits_too() -> None:
    """The interpolation of patches stays in higher precision: OpenVINO cannot compile its sum with the fine path."""
    config = CLIPConfig(16, EfficientNetConfig(32, 0.25, 0.3, 16, 1, 0, 8), preset("efficientnet-tiny").text)
    arrays = {name: tensor.numpy() for name, tensor in CLIP(config).eval().state_dict().items()}
    pixels = np.random.default_rng(0).integers(256, size=(2, 1, 32, 32, 3), dtype=np.uint8)
    whole = image_graph(config, arrays, Preprocess(32), ("image", PATCHES_OUTPUT))
    compiled = openvino.compile_model(quantised(whole, list(pixels), "plain"), "CPU")
    image, patches = (compiled(pixels[0])[output] for output in (0, 1))
    assert (image.shape, patches.shape) == ((1, 16), (1, 4, 16))
    assert np.isfinite(patches).all()
