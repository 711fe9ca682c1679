"""8-bit arithmetic: NNCF's post-training quantisation, with SmoothQuant (Xiao et al. 2022), which moves the outliers of
activations into the weights, and without it: which of both is nearer differs from model to model."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from diptych.display.escaping import underlying
from diptych.engines.openvino_runtime import openvino, without  # noqa: F401 (before NNCF, which would bring its tools)
from diptych.errors import ArgumentError

Way = Literal["SmoothQuant", "plain"]
WAYS: tuple[Way, ...] = get_args(Way)


def quantised(graph: Any, inputs: Sequence[np.ndarray], way: Way) -> Any:
    """A tower's graph in 8 bits, its ranges taken from the batches of `inputs`.

    Raises ValueError where NNCF is not installed.
    """
    try:
        # It would report its use to its makers, and number this user in a folder ~/intel, even where it is told not to.
        with without("openvino_telemetry"):
            import nncf
            from nncf.quantization.range_estimator import RangeEstimatorParametersSet
    except ModuleNotFoundError as error:
        raise ArgumentError(f"8-bit models need {error.name}: pip install 'diptych[convert]'.") from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    smooth = nncf.AdvancedSmoothQuantParameters() if way == "SmoothQuant" else _none(nncf)
    with contextlib.redirect_stdout(underlying(sys.stderr)):  # where its bars go, for results go to the other
        return nncf.quantize(
            graph,
            nncf.Dataset(list(inputs)),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(inputs),
            # By default NNCF takes the mean of each picture's own extremes, which cuts off those of the rest: the worst
            # of 1,000 pictures then had a cosine of 0.975 to float32, and 0.9955 with the extremes of all.
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX, smooth_quant_alphas=smooth
            ),
        )


def _none(nncf: Any) -> Any:
    return nncf.AdvancedSmoothQuantParameters(convolution=-1, matmul=-1)
