"""Networks for images by name.

========================  ======================================================================
``mlp``, ``convnet3``     the paper's MLP-3 and ConvNet-3 (Table 2)
``hyper_cnn``             the small network of the comparison with hyper-representations (Table 8)
``convnet``               a small one with BatchNorm, for the digits
``cifar_resnet20``        and 32, 44, 56, 110: He et al.'s residual networks for CIFAR-10
``timm/NAME``             every network of timm
``torchvision/NAME``      every classification network of torchvision
``package.module:attr``   a user's own: anything that, called with the options, returns a module
========================  ======================================================================

The settings of each are a dataclass (:class:`paramdiff.tasks.models.network.Network`): its fields are what
``task.model_options`` takes.
"""

from paramdiff.tasks.models.named import NETWORKS, make_network

__all__ = ["NETWORKS", "make_network"]
