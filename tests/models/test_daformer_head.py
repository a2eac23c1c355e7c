import torch
import torch.nn.functional as F

from structseg_mmseg.models.decode_heads import DAFormerHead

WIDTHS = (3, 4, 5)


def test_it_is_its_layers_in_turn():
    """With batch normalisation in evaluation mode, where it has nothing to do at first."""
    torch.manual_seed(0)
    head = DAFormerHead(WIDTHS, 6, (1, 2), num_classes=3, norm_cfg=dict(type='BN', eps=0)).double()
    head.eval()
    sizes = ((8, 12), (4, 6), (2, 3))
    x = [torch.randn(2, width, *size).double() for width, size in zip(WIDTHS, sizes)]
    weights = head.state_dict()
    fused = torch.cat([F.interpolate(
        torch.einsum('nchw,dc->ndhw', feature, weights[f'embed_layers.{i}.weight'][..., 0, 0])
        + weights[f'embed_layers.{i}.bias'][:, None, None], sizes[0], mode='bilinear')
        for i, feature in enumerate(x)], dim=1)
    plain = F.conv2d(fused, weights['aspp_modules.0.conv.weight']).relu()
    depth = F.conv2d(fused, weights['aspp_modules.1.depthwise_conv.conv.weight'], padding=2,
                     dilation=2, groups=18).relu()
    dilated = F.conv2d(depth, weights['aspp_modules.1.pointwise_conv.conv.weight']).relu()
    joined = F.conv2d(torch.cat([plain, dilated], dim=1), weights['bottleneck.conv.weight'],
                      padding=1).relu()
    expected = F.conv2d(joined, weights['conv_seg.weight'], weights['conv_seg.bias'])
    torch.testing.assert_close(head(x), expected, rtol=1e-12, atol=1e-12)


def test_its_published_size():
    head = DAFormerHead((64, 128, 320, 512), num_classes=19, norm_cfg=dict(type='BN'))
    assert sum(p.numel() for p in head.parameters()) == 3_712_275
