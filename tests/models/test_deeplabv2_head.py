import torch
import torch.nn.functional as F

from structseg_mmseg.models.decode_heads import DeepLabV2Head


def test_sum_of_dilated_classifiers():
    head = DeepLabV2Head(4, num_classes=3).double()
    x = torch.randn(2, 4, 9, 11, dtype=torch.float64)
    expected = 0
    for conv, rate in zip(head.conv_seg, (6, 12, 18, 24)):
        expected = expected + F.conv2d(x, conv.weight, conv.bias, padding=rate, dilation=rate)
    torch.testing.assert_close(head((torch.zeros(1), x)), expected, rtol=1e-12, atol=1e-12)


def test_initialisation_and_parameters():
    head = DeepLabV2Head(2048, num_classes=19)
    head.init_weights()
    weights = torch.cat([conv.weight.flatten() for conv in head.conv_seg])
    assert abs(weights.std() - 0.01) < 1e-4
    assert sum(p.numel() for p in head.parameters()) == 4 * (2048 * 19 * 9 + 19)
