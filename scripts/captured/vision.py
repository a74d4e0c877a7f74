"""The models of torchvision, also where its compiled operations do not fit the PyTorch that is there: no model has any."""

import sys
from typing import Any

import torch

try:
    import torchvision
except RuntimeError:  # a release for CUDA beside PyTorch for CPUs: it asks for operations that its own library would define
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    LIBRARY = torch.library.Library("torchvision", "DEF")  # which defines them for as long as it lives
    for operation in ("nms", "qnms"):
        LIBRARY.define(f"{operation}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision


def build(name: str) -> Any:
    """The model of that name, with random weights."""
    return torchvision.models.get_model(name, weights=None)


def published(name: str) -> float:
    """What torchvision publishes with its weights: 10^9 multiply-adds of a forward pass, matrix products included."""
    found: float = torchvision.models.get_model_weights(name).DEFAULT.meta["_ops"]
    return found
