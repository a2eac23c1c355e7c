import pytest
import torch
from torch import nn

from structseg_mmseg.errors import InputError
from structseg_mmseg.models.necks import ReconstructionDecoder


@pytest.mark.parametrize('stride', [1, 2, 8, 16, 32])
def test_shape_and_range(stride):
    decoder = ReconstructionDecoder(6, stride, channels=32, num_blocks=1)
    out = decoder((torch.zeros(1), 100 * torch.randn(2, 6, 3, 5)))
    assert out.shape == (2, 3, 3 * stride, 5 * stride)
    assert out.abs().max() <= 1


def test_layers_of_the_paper():
    """UNIT's generator behind a projection, with one more doubling."""
    decoder = ReconstructionDecoder(2048, 8)
    convs = [m for m in decoder.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    described = [(type(m).__name__, m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0])
                 for m in convs]
    assert described == [
        ('Conv2d', 2048, 512, 1, 1),
        *[('Conv2d', 512, 512, 3, 1)] * 8,
        ('ConvTranspose2d', 512, 256, 3, 2),
        ('ConvTranspose2d', 256, 128, 3, 2),
        ('ConvTranspose2d', 128, 64, 3, 2),
        ('Conv2d', 64, 3, 1, 1),
    ]
    assert sum(isinstance(m, nn.InstanceNorm2d) for m in decoder.modules()) == 8


def test_features_lie_where_the_encoder_found_them():
    """Feature i of a symmetric encoder sees pixel stride * i; its output surrounds that pixel."""
    decoder = ReconstructionDecoder(1, 8, channels=8, num_blocks=0, norm_cfg=None).double()
    for conv in decoder.modules():
        if isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.constant_(conv.weight, 0.1)
            nn.init.zeros_(conv.bias)
    x = torch.zeros(1, 1, 5, 5).double()
    x[..., 2, 3] = 1
    reached = decoder((x, ))[0, 0].nonzero()
    low, high = reached.amin(0), reached.amax(0)
    assert ((low + high) / 2).tolist() == [16, 24]


def test_stride_must_be_a_power_of_two():
    with pytest.raises(InputError, match='decoder.stride is 12'):
        ReconstructionDecoder(4, 12)
    with pytest.raises(InputError, match='decoder.channels'):
        ReconstructionDecoder(4, 32, channels=16)


@pytest.mark.parametrize('compiled', [False, True])
def test_one_image_with_its_channels_together_has_the_same_gradient(compiled):
    """Instance normalisation of it misreads the gradient of such a memory format."""
    torch.manual_seed(0)
    decoder = ReconstructionDecoder(4, 1, channels=8, num_blocks=1).double()
    features, weight = torch.randn(1, 4, 5, 7).double(), torch.randn(1, 3, 5, 7).double()
    gradients = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        decoder.to(memory_format=memory_format).zero_grad()
        x = features.clone(memory_format=memory_format).requires_grad_()
        forward = torch.compile(decoder, backend='aot_eager') if compiled else decoder
        (forward([x]) * weight).sum().backward()
        gradients.append([x.grad, *(p.grad.clone() for p in decoder.parameters())])
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
