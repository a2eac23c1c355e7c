"""VFM-UDA's decoder against its equations."""
import torch
import torch.nn.functional as F

from structseg_mmseg.models.decode_heads import VFMUDAHead


def naive(w: dict, x: torch.Tensor) -> torch.Tensor:
    def norm(name, y):
        y = y - y.mean(dim=1, keepdim=True)
        y = y / (y.square().mean(dim=1, keepdim=True) + 1e-6).sqrt()
        return y * w[f'{name}.weight'].view(-1, 1, 1) + w[f'{name}.bias'].view(-1, 1, 1)

    def doubled(name, y):  # each position gives a square of 2 x 2
        y = torch.einsum('nchw,cdij->ndhiwj', y, w[f'{name}.weight'])
        return y.flatten(4, 5).flatten(2, 3)

    x = F.gelu(norm('upscale.1', doubled('upscale.0', x)))
    x = norm('upscale.4', doubled('upscale.3', x))
    x = norm('upscale.6', F.conv2d(x, w['upscale.5.weight'], padding=1))
    return torch.einsum('nchw,kc->nkhw', x, w['conv_seg.weight'][..., 0, 0])


def test_vfm_udas_head():
    torch.manual_seed(0)
    head = VFMUDAHead(64, num_classes=19).double()
    head.init_weights()
    for p in head.parameters():
        if p.dim() == 1:
            torch.nn.init.normal_(p)
    x = torch.randn(2, 64, 3, 5).double()
    torch.testing.assert_close(head((x, )), naive(head.state_dict(), x), rtol=1e-12, atol=1e-12)
    assert abs(head.conv_seg.weight.std() - 0.1) < 0.02
    assert not any('bias' in name and 'upscale' not in name for name in head.state_dict())
