from math import log2

from torch import Tensor


def self_information(softmax: Tensor) -> Tensor:
    r""":math:`-p_c \log_2 p_c / \log_2 C` of ADVENT (Vu et al., CVPR 2019), (N, C, H, W).

    Its sum over the classes is a pixel's entropy, in [0, 1].
    """
    # Where p is 0 the product is 0, not NaN: 1e-30 as in ADVENT's code.
    return -softmax * (softmax + 1e-30).log2() / log2(softmax.shape[1])
