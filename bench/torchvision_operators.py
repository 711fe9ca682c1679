"""Import before open_clip or torchvision if torch has no CUDA: torchvision has no CPU build, so the compiled operators
that its import needs are declared here. The peers use only its Python transforms."""

import torch

_LIBRARY = torch.library.Library("torchvision", "DEF")
_LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
