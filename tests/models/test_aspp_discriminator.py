import torch
from torch import nn

from structseg_mmseg.models.discriminators import ASPPDiscriminator


def test_fully_convolutional():
    discriminator = ASPPDiscriminator(5, channels=4)
    for size in ((7, 9), (1, 1), (12, 5)):
        assert discriminator(torch.rand(2, 5, *size)).shape == (2, 1, *size)


def test_three_layers_with_four_rates():
    discriminator = ASPPDiscriminator(19)
    assert [m.dilation[0] for m in discriminator.modules() if isinstance(m, nn.Conv2d)] == [
        1, 1, 2, 3, 4, 1]
    assert discriminator.classify.in_channels == 4 * 128


def test_receptive_field_and_every_rate_takes_part():
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
