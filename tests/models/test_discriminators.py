import pytest
import torch
import torch.nn.functional as F
from torch import nn

from structseg_mmseg.errors import InputError
from structseg_mmseg.models.discriminators import (ASPPDiscriminator, FCDiscriminator,
                                                   PixelDiscriminator)


def weigh(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize('first_layer', [True, False])
def test_aspp_is_fully_convolutional(first_layer):
    discriminator = ASPPDiscriminator(5, channels=4, first_layer=first_layer)
    for size in ((7, 9), (1, 1), (12, 5)):
        assert discriminator(torch.rand(2, 5, *size)).shape == (2, 1, *size)


def test_aspp_has_three_layers_with_four_rates():
    discriminator = ASPPDiscriminator(19)
    assert [m.dilation[0] for m in discriminator.modules() if isinstance(m, nn.Conv2d)] == [
        1, 1, 2, 3, 4, 1]
    assert discriminator.classify.in_channels == 4 * 128


def test_aspp_of_reference_17_has_two_layers():
    """Four 3x3 convolutions from 2048 to 128 channels, and one 1x1 from 512."""
    discriminator = ASPPDiscriminator(2048, first_layer=False)
    assert weigh(discriminator) == 4 * (2048 * 9 + 1) * 128 + 512 + 1
    assert [m.dilation[0] for m in discriminator.modules() if isinstance(m, nn.Conv2d)] == [
        1, 2, 3, 4, 1]


def test_aspps_receptive_field_and_every_rate_takes_part():
    """Rate 4 behind a 3x3 convolution sees 11 pixels; the logits are not squashed."""
    discriminator = ASPPDiscriminator(2, channels=4).double()
    x = torch.rand(1, 2, 21, 21, dtype=torch.float64, requires_grad=True)
    out = discriminator(x)
    out[0, 0, 10, 10].backward()
    seen = x.grad[0].abs().sum(0).nonzero()
    assert seen.amin(0).tolist() == [5, 5] and seen.amax(0).tolist() == [15, 15]
    out = discriminator(x)
    out.sum().backward()
    assert all(branch.conv.weight.grad.abs().sum() > 0 for branch in discriminator.aspp)
    with torch.no_grad():
        discriminator.classify.bias += 10
        torch.testing.assert_close(discriminator(x), out + 10)


def test_fc_has_the_weight_of_reference_14():
    assert weigh(FCDiscriminator(19)) == 2_781_121


def test_fc_is_five_convolutions():
    """By torch's functions, from its weights in their order."""
    discriminator = FCDiscriminator(3, channels=4).double()
    x = torch.randn(2, 3, 70, 97, dtype=torch.float64)
    parameters = list(discriminator.parameters())
    assert [p.shape[0] for p in parameters[::2]] == [4, 8, 16, 32, 1]
    expected = x
    for index in range(0, 10, 2):
        if index:
            expected = expected.where(expected > 0, 0.2 * expected)
        expected = F.conv2d(expected, *parameters[index:index + 2], stride=2, padding=1)
    got = discriminator(x)
    assert got.shape == (2, 1, 2, 3)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)


def test_fc_refuses_what_would_vanish():
    discriminator = FCDiscriminator(3, channels=4)
    assert discriminator(torch.zeros(1, 3, 32, 63)).shape == (1, 1, 1, 1)
    with pytest.raises(InputError, match="40x31 leaves .* 32x32: set size='image'"):
        discriminator(torch.zeros(1, 3, 31, 40))


def test_pixel_sees_one_unit():
    """As a perceptron of each unit; two scores' cross-entropy is one logit's."""
    discriminator = PixelDiscriminator(4, channels=(6, 5)).double()
    x = torch.randn(2, 4, 3, 7, dtype=torch.float64)
    first, second, last = (m for m in discriminator.modules() if isinstance(m, nn.Conv2d))
    units = x.permute(0, 2, 3, 1)
    for layer in (first, second):
        units = F.linear(units, layer.weight.flatten(1), layer.bias).clamp(min=0)
    expected = F.linear(units, last.weight.flatten(1), last.bias).permute(0, 3, 1, 2)
    torch.testing.assert_close(discriminator(x), expected, rtol=1e-12, atol=1e-14)


def test_pixel_has_the_weight_of_references_6_and_7():
    assert weigh(PixelDiscriminator(19, channels=(512, 256))) == (
        20 * 512 + 513 * 256 + 257)
    assert weigh(PixelDiscriminator(4096)) == 4097 * 1024 + 1025 * 1024 + 1025


def test_pixel_drops_channels_while_training():
    discriminator = PixelDiscriminator(4, channels=(64, ), dropout=0.5)
    x = torch.randn(1, 4, 3, 3)
    assert not torch.equal(discriminator(x), discriminator(x))
    discriminator.eval()
    assert torch.equal(discriminator(x), discriminator(x))
