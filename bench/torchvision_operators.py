"""Import before open_clip or torchvision where torch has no CUDA: there is no CPU build of torchvision, so the compiled
operators that its import looks for are declared here. The peers measured use only its Python transforms."""

import torch

_LIBRARY = torch.library.Library("torchvision", "DEF")
_LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
