"""Exported models as their users run them, against the model with this package."""
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from mmseg.apis import inference_model, init_model
from mmseg.registry import MODELS
from torch import nn

from structseg_mmseg.export import export
from tests.helpers.data import write_image
from tests.helpers.models import NUM_CLASSES, model_cfg
from tests.helpers.tools import call, fails

TERMS = model_cfg()['terms']
MODELS_BY_NAME = {
    # All of it mmseg's own, in BGR, with averaged weights.
    'fcn': dict(
        decode_head=dict(type='FCNHead', in_channels=64, channels=8, num_convs=1,
                         num_classes=NUM_CLASSES, norm_cfg=dict(type='BN'))),
    # Padding that depends on the size, in RGB; inference takes the source's statistics.
    'lite': dict(
        backbone=dict(type='EfficientNetLite', output_stride=16),
        decode_head=dict(model_cfg()['decode_head'], in_channels=320),
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[100., 110., 120.],
                               bgr_to_rgb=True),
        batch_statistics='per_domain', test_cfg=dict(mode='whole', statistics='source')),
    # Inference is the teacher's.
    'teacher': dict(
        terms=dict(labels=dict(type='PseudoLabels')), test_cfg=dict(mode='whole', model='teacher')),
}
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(96, 64)),
            dict(type='LoadAnnotations'), dict(type='MapLabelIds'), dict(type='PackSegInputs')]
# Without this package, as where it is not installed.
PLAIN = """
import sys
sys.modules['structseg_mmseg'] = None
import numpy as np
from mmseg.apis import MMSegInferencer, inference_model, init_model
folder, image = sys.argv[1:]
model = init_model(f'{folder}/model.py', f'{folder}/model.pth', device='cpu')
inferencer = MMSegInferencer(f'{folder}/model.py', f'{folder}/model.pth', device='cpu')
np.savez(f'{folder}/plain.npz', inference_model(model, image).pred_sem_seg.data[0].numpy(),
         inferencer(image)['predictions'], classes=model.dataset_meta['classes'])
"""


def trained(folder, name, **options):
    """Write a config and a checkpoint like one of a training; the model with its weights."""
    torch.manual_seed(0)
    cfg = Config(dict(
        default_scope='mmseg', custom_imports=dict(imports=['structseg_mmseg']),
        model=model_cfg(**dict(dict(terms=dict(adversary=TERMS['adversary'])),
                               **MODELS_BY_NAME[name])),
        test_pipeline=PIPELINE, test_dataloader=dict(dataset=dict(pipeline=PIPELINE)),
        visualizer=dict(type='SegLocalVisualizer')))
    cfg.merge_from_dict(options)
    cfg.dump(str(folder / 'config.py'))
    model = MODELS.build(cfg.model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if hasattr(module, 'running_mean'):  # the source's set, too
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            module.num_batches_tracked.fill_(1)
    state = model.state_dict()
    average = {f'module.{key}': value + 1 if value.is_floating_point() else value
               for key, value in ExponentialMovingAverage(model).module.state_dict().items()}
    torch.save(dict(
        meta=dict(iter=2, cfg='a = 1', dataset_meta=dict(
            classes=tuple('abcde'), palette=[[0, 0, index] for index in range(5)],
            label_lut=np.arange(35))),
        state_dict=state, **(dict(ema_state_dict=average) if name == 'fcn' else {}),
        optimizer=dict(segmentor=dict(state=state))), folder / 'iter_2.pth')
    write_image(folder / 'image.png', np.random.default_rng(0).integers(
        0, 256, (50, 70, 3), np.uint8))
    return init_model(str(folder / 'config.py'), str(folder / 'iter_2.pth'), device='cpu')


def logits_of(model, image):
    """By the model's own preprocessor, of RGB images (N, 3, H, W)."""
    data = model.data_preprocessor(dict(inputs=list(image.flip(1))))
    with torch.no_grad():
        samples = model(data['inputs'], mode='predict')
    return torch.stack([sample.seg_logits.data for sample in samples])


@pytest.fixture(autouse=True)
def _logs():
    yield
    logging.disable(logging.NOTSET)  # by the tool, in this process


@pytest.mark.parametrize('name', MODELS_BY_NAME)
def test_all_formats(tmp_path, name):
    pytest.importorskip('onnxruntime')
    model = trained(tmp_path, name)
    out = tmp_path / 'out'
    printed = call('export.py', tmp_path / 'config.py', tmp_path / 'iter_2.pth', out, '--size', 64,
                   96).stdout

    assert torch.serialization.get_unsafe_globals_in_checkpoint(out / 'model.pth') == []
    assert (out / 'model.pth').stat().st_size < (tmp_path / 'iter_2.pth').stat().st_size
    plain = init_model(str(out / 'model.py'), str(out / 'model.pth'), device='cpu')
    path = str(tmp_path / 'image.png')
    expected = inference_model(model, path).pred_sem_seg.data[0].numpy()
    assert len(np.unique(expected)) > 1 and type(plain).__name__ == 'EncoderDecoder'
    np.testing.assert_array_equal(expected,
                                  inference_model(plain, path).pred_sem_seg.data[0].numpy())
    assert ('the averaged weights' in printed) == (name == 'fcn')
    if name == 'fcn':
        environment = dict(os.environ, OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')
        subprocess.run([sys.executable, '-c', PLAIN, out, path], check=True, env=environment)
        results = np.load(out / 'plain.npz')
        np.testing.assert_array_equal(results['arr_0'], expected)
        np.testing.assert_array_equal(results['arr_1'], expected)
        assert list(results['classes']) == list('abcde')
    elif name == 'lite':
        assert 'DeepLabV2Head, EfficientNetLite are of structseg_mmseg' in printed
    equal_logits(model, out)


def test_pooling_that_rounds_up(tmp_path):
    pytest.importorskip('onnxruntime')
    cfg = model_cfg(type='EncoderDecoder')
    cfg.pop('terms')
    cfg.backbone.type = 'DeepLabResNet'
    model = MODELS.build(cfg).eval()
    export(model, tmp_path, (64, 96))
    equal_logits(model, tmp_path)


def equal_logits(model, out):
    """Those of both programs, at sizes and numbers of images that are new to them."""
    import onnxruntime
    session = onnxruntime.InferenceSession(out / 'model.onnx')
    program = torch.export.load(out / 'model.pt2').module()
    for size in ((1, 3, 65, 129), (3, 3, 120, 90)):
        image = torch.rand(size) * 255
        expected = logits_of(model, image)
        first, second = expected.topk(2, dim=1).values.unbind(1)
        for logits in (torch.from_numpy(session.run(None, dict(image=image.numpy()))[0]),
                       program(image)):
            assert (logits - expected).abs().max() < 1e-4 * expected.abs().max()
            same = logits.argmax(1) == expected.argmax(1)
            assert same[first - second > 1e-4].all()


def test_what_cannot_be_exported(tmp_path):
    trained(tmp_path, 'fcn', **{'model.test_cfg': dict(
        mode='slide', crop_size=(32, 32), stride=(16, 16))})
    done = call('export.py', tmp_path / 'config.py', tmp_path / 'iter_2.pth', tmp_path / 'out',
                check=False)
    fails(done, 'model.pt2 and model.onnx are left out', 'test_cfg.mode')
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['model.pth', 'model.py']
