"""Quantisation to int8: NNCF's post-training quantisation, with SmoothQuant (Xiao et al. 2022), which moves outliers of
activations into the weights, and without it. The more accurate one differs from model to model."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from diptych.display.escaping import unwrapped
from diptych.engines.convolutional_graph import INTERPOLATION
from diptych.engines.openvino_runtime import openvino, without  # noqa: F401 (before NNCF, which would bring its tools)
from diptych.errors import ArgumentError

QuantisationMethod = Literal["SmoothQuant", "plain"]
DEPTHWISE = "GroupConvolution"  # OpenVINO's name
QUANTISATION_METHODS: tuple[QuantisationMethod, ...] = get_args(QuantisationMethod)


def quantised(graph: Any, inputs: Sequence[np.ndarray], method: QuantisationMethod) -> Any:
    """A tower's graph in int8, calibrated on the batches of `inputs`.

    Raises ValueError if NNCF is not installed.
    """
    try:
        # NNCF sends telemetry and writes a user id to ~/intel, even if told not to.
        with without("openvino_telemetry"):
            import nncf
            from nncf.quantization.range_estimator import RangeEstimatorParametersSet
    except ModuleNotFoundError as error:
        raise ArgumentError(f"8-bit models need {error.name}: pip install 'diptych[convert]'.") from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    smooth = nncf.AdvancedSmoothQuantParameters() if method == "SmoothQuant" else _none(nncf)
    with contextlib.redirect_stdout(unwrapped(sys.stderr)):  # its progress bars; stdout is for results
        return nncf.quantize(
            graph,
            nncf.Dataset(list(inputs)),
            **_scheme(nncf, graph),
            subset_size=len(inputs),
            # By default NNCF takes the mean of each picture's extremes, which clips the others: the worst of 1,000
            # pictures then had a cosine of 0.975 to float32, and 0.9955 with the extremes of all pictures.
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX, smooth_quant_alphas=smooth
            ),
        )


def _scheme(nncf: Any, graph: Any) -> dict[str, Any]:
    """NNCF's scheme for a graph: for transformers, or for convolutional networks with depthwise convolutions, which
    stay in higher precision, as does the interpolation of patches: OpenVINO cannot compile it in 8 bits when a sum
    follows. A depthwise kernel has few weights and each channel its own range, so that 8 bits cost it
    the most and speed it up the least."""
    if not any(node.get_type_name() == DEPTHWISE for node in graph.get_ops()):
        return {"model_type": nncf.ModelType.TRANSFORMER}
    names = [node.get_friendly_name() for node in graph.get_ops() if node.get_friendly_name() == INTERPOLATION]
    scope = nncf.IgnoredScope(types=[DEPTHWISE], names=names)
    return {"preset": nncf.QuantizationPreset.PERFORMANCE, "ignored_scope": scope}


def _none(nncf: Any) -> Any:
    return nncf.AdvancedSmoothQuantParameters(convolution=-1, matmul=-1)
