"""Two scales: the forward pass cell by cell, and five iterations against a sequential procedure."""
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.optim import build_optim_wrapper
from mmseg.registry import MODELS
from torch import nn

from structseg_mmseg.errors import InputError
from structseg_mmseg.models.backbones import TwoScales
from structseg_mmseg.models.backbones.two_scales import windows
from tests.helpers.models import NUM_CLASSES, build, optim_cfg
from tests.helpers.runs import assert_equal_checkpoints, runner_cfg, train
from tests.models.terms.test_self_training import SIZE, Sequential, cfg_with, data_of, draws_of

WINDOW, CELL = 16, 4
# An average that all batches have a like part in: passes run in another order than is published.
NORM = dict(type='BN', momentum=None)


@MODELS.register_module()
class Pyramid(BaseModule):
    """Features at strides 2 and 4."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(*widths, 3, 2, 1) for widths in ((3, 6), (6, 8)))

    def forward(self, x):
        first = self.convs[0](x).tanh()
        return [first, self.convs[1](first)]


def head(**kwargs) -> dict:
    return dict(type='DAFormerHead', in_channels=(6, 8), channels=5, dropout_ratio=0,
                norm_cfg=NORM, **kwargs,
                # So that labels are of many classes, and the teacher sure of some.
                init_cfg=dict(type='Normal', std=0.5, override=dict(name='conv_seg')))


def hrda_cfg(others=(), **options) -> dict:
    cfg = cfg_with(others, **options)
    cfg['backbone'] = dict(type='TwoScales', backbone=dict(type='Pyramid'), window=WINDOW,
                           cell=CELL)
    cfg['decode_head'] = dict(
        type='HRDAHead', num_classes=NUM_CLASSES, head=head(dilations=(1, 2)),
        attention=head(dilations=None), align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True))
    return cfg


def up(maps):
    return F.interpolate(maps, scale_factor=2, mode='bilinear')


class Scales(Sequential):
    """The procedure of self-training, each of whose networks sees two scales."""

    def __init__(self, model, **options) -> None:
        super().__init__(model, **options)
        for network in (self.student, self.teacher):  # in the place of the parts that know of both
            network['E'] = network['E'].context[1]
        self.imagenet = deepcopy(self.student['E'])

    @staticmethod
    def half(images):
        """Each pixel the mean of four."""
        n, c, height, width = images.shape
        return images.view(n, c, height // 2, 2, width // 2, 2).mean(dim=(3, 5))

    @classmethod
    def context(cls, network, images):
        x = network['E'](cls.half(images))
        return x, network['S'].head(x)

    def feature_distance(self, x, images, label):
        super().feature_distance(x, self.half(images), label)

    def learn(self, name, images, label, weight, mean_over='all'):
        network, (top, left) = self.student, self.places[name]
        x, coarse = self.context(network, images)
        seen = (..., slice(top, top + WINDOW), slice(left, left + WINDOW))
        fine = network['S'].head(network['E'](images[seen]))
        a = network['S'].scale_attention(x).sigmoid()
        mask = torch.zeros_like(a)
        for i in range(a.shape[2]):
            for j in range(a.shape[3]):
                mask[:, :, i, j] = (top <= CELL * i < top + WINDOW
                                    and left <= CELL * j < left + WINDOW)
        assert mask[0, 0].sum() == (WINDOW / CELL)**2
        a = a * mask
        inserted = torch.zeros(len(x[0]), NUM_CLASSES, SIZE[0] // 2, SIZE[1] // 2).double()
        inserted[..., top // 2:(top + WINDOW) // 2, left // 2:(left + WINDOW) // 2] = fine
        fused = up(a) * inserted + up((1 - a) * coarse)
        whole = self.cross_entropy(up(fused), label, weight, mean_over)
        detail = self.cross_entropy(up(fine), label[seen], weight[seen], mean_over)
        return 0.9 * whole + 0.1 * detail, x[-1]

    @classmethod
    def logits(cls, network, images):
        """A teacher's: all windows in one batch."""
        x, coarse = cls.context(network, images)
        places = [(y, x) for y in (0, 8, 16, 20) for x in (0, 8, 16, 24, 32, 36)]
        crops = torch.cat([images[..., y:y + WINDOW, x:x + WINDOW] for y, x in places])
        fine = network['S'].head(network['E'](crops))
        total = torch.zeros(len(images), NUM_CLASSES, SIZE[0] // 2, SIZE[1] // 2).double()
        count = torch.zeros(total.shape).double()
        for index, (top, left) in enumerate(places):
            cells = (..., slice(top // 2, (top + WINDOW) // 2),
                     slice(left // 2, (left + WINDOW) // 2))
            total[cells] += fine[index * len(images):(index + 1) * len(images)]
            count[cells] += 1
        a = network['S'].scale_attention(x).sigmoid()
        return up(up(a) * total / count + up((1 - a) * coarse))


def test_five_iterations_are_the_sequential_procedures():
    options = dict(ema_at='start', alpha=0.7, classes_of='batch', margins=(5, 9),
                   others=('feature_distance', 'masked'))
    model = build(cfg=hrda_cfg(**options)).train()
    procedure = Scales(build(cfg=hrda_cfg(**options)).train(), **options)
    wrapper = build_optim_wrapper(model, optim_cfg())
    places = []
    model.backbone.register_forward_hook(lambda module, _, outs: places.append(
        (CELL * outs[2]).tolist()))
    generator = torch.Generator().manual_seed(0)
    drawn, confident = set(), []
    for iteration in range(5):
        places.clear()
        data = data_of(iteration, generator)
        log = model.train_step(deepcopy(data), wrapper)
        confident.append(float(log['self_training.confident']))
        procedure.places = dict(zip(('mixed', 'masked', 'source'), places))
        drawn.update(map(tuple, places))
        procedure.step(data, {domain: draws_of(part['data_samples'])
                              for domain, part in data.items()})
    assert len(drawn) > 8  # each pass has its own
    assert all(0.05 < value < 0.95 for value in confident), confident
    procedure.ema()  # of the sixth
    teacher = model.terms['self_training'].teacher
    for ours, theirs in ((model, procedure.student), (teacher, procedure.teacher)):
        for part, key in ((ours.backbone.context[1], 'E'), (ours.decode_head, 'S')):
            state = part.state_dict()
            for entry, value in theirs[key].state_dict().items():
                torch.testing.assert_close(state[entry], value, rtol=0, atol=1e-10, msg=entry)


def test_windows_of_the_published_sizes():
    """Of a crop of 1,024 nine at half overlap, and a place from 0 to 504 in steps of 8."""
    places = windows((1024, 1024), (512, 512))
    assert [(rows.start, columns.start) for rows, columns in places] == [
        (y, x) for y in (0, 256, 512) for x in (0, 256, 512)]
    assert all(one.stop - one.start == 512 for pair in places for one in pair)
    encoder = TwoScales(dict(type='Pyramid'))
    drawn = torch.stack([encoder.draw((1024, 1024)) for _ in range(2000)])
    assert {*(encoder.cell * drawn).flatten().tolist()} == {*range(0, 505, 8)}
    assert (drawn[:, 0] != drawn[:, 1]).any()
    assert windows((300, 700), (512, 512)) == [
        (slice(0, 300), slice(0, 512)), (slice(0, 300), slice(188, 700))]


def test_in_evaluation_all_windows_are_seen_with_gradients_or_without():
    model = build(cfg=hrda_cfg()).eval()
    images = torch.randn(2, 3, *SIZE).double()
    with torch.no_grad():
        expected = Scales.logits(nn.ModuleDict(dict(
            E=model.backbone.context[1], S=model.decode_head)), images)
    for context in (torch.no_grad(), torch.enable_grad()):
        with context:
            torch.testing.assert_close(up(model(images)), expected, rtol=0, atol=1e-12)


def test_outer_windows():
    """As tests slide over images larger than crops: the mean of what is said of each."""
    cfg = hrda_cfg()
    cfg.test_cfg = dict(mode='slide', crop_size=(20, 28), stride=(16, 24))
    model = build(cfg=cfg).eval()
    images = torch.randn(1, 3, *SIZE).double()
    with torch.no_grad():
        got = model.encode_decode(images[..., :20, :28], [dict(img_shape=(20, 28))])
        whole = model.inference(images, [dict(img_shape=SIZE, ori_shape=SIZE)])
    torch.testing.assert_close(whole[..., :16, :24], got[..., :16, :24], rtol=0, atol=1e-12)


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(InputError, match='images of 34x52 pixels: give sides that are multiples'):
        build(cfg=hrda_cfg()).backbone(torch.zeros(1, 3, 34, 52).double())


def test_it_trains_and_resumes_to_the_bit(trees, tmp_path):
    def cfg(folder, iterations):
        return runner_cfg(trees, tmp_path / folder, iterations, model=hrda_cfg(('masked', )),
                          optim_wrapper=optim_cfg(), parts=(True, ), target_batch=2,
                          augment=[dict(type='RandomCrop', crop_size=(28, 52))])
    straight, _ = train(cfg('straight', 4))
    train(cfg('resumed', 2))
    resumed, _ = train(dict(cfg('resumed', 4), resume=True))
    assert_equal_checkpoints(straight, resumed)
