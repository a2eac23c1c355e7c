"""Self-training against a sequential procedure written apart, and in closed form."""
import colorsys
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import build_optim_wrapper
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from scipy.ndimage import gaussian_filter
from torch import nn

from structseg_mmseg.engine.hooks.panel_hook import TITLE, panel
from structseg_mmseg.errors import InputError
from structseg_mmseg.models.adaptation import Batch
from structseg_mmseg.models.adaptation.colour import blur, colour_jitter, saturate, turn_hue
from structseg_mmseg.models.terms import PseudoLabels, SelfTraining
from tests.helpers.models import (NUM_CLASSES, batch, build, domains, model_cfg, optim_cfg,
                                  sequential_optimizers)

MEAN = torch.tensor([104., 116., 122.]).double().view(3, 1, 1)
STD = torch.tensor([58., 57., 56.]).double().view(3, 1, 1)
SIZE = (36, 52)
# Small networks learn to be sure of nothing in five iterations.
THRESHOLD = 0.3
# What DACS, DAFormer and VFM-UDA do; alphas that the ramp reaches.
SETS = dict(
    dacs=dict(ema_at='end', alpha=0.6, jitter=0.25),
    daformer=dict(ema_at='start', alpha=0.7, classes_of='batch', margins=(5, 9)),
    vfm_uda=dict(ema_at='start', alpha=0.6, ema_of='state', teacher_mode='eval', mirrored=True,
                 weak_jitter=True, q_of='image', mean_over='valid', loss_weight=0.5),
    mic=dict(ema_at='start', alpha=0.7, classes_of='batch', margins=(5, 9),
             others=('feature_distance', 'masked')),
)


# The other terms of DAFormer and MIC; a share that random labels reach here and there.
OTHERS = dict(
    feature_distance=dict(type='FeatureDistance', classes=(1, 2), min_ratio=0.2, loss_weight=0.05),
    masked=dict(type='MaskedConsistency', block=8, ratio=0.6, loss_weight=0.7))


def cfg_with(others=(), **options) -> dict:
    return model_cfg(False, False, terms=dict(
        {name: OTHERS[name] for name in others if name != 'masked'}, self_training=dict(
            dict(type='SelfTraining', threshold=THRESHOLD), **options),
        masked=OTHERS['masked'] if 'masked' in others else None))


def data_of(iteration: int, generator: torch.Generator) -> dict:
    data = dict(source=batch(generator, *SIZE, labelled=True),
                target=batch(generator, *SIZE, labelled=False))
    for part in data.values():
        for index, sample in enumerate(part['data_samples']):
            sample.set_metainfo(dict(seed=(iteration, index)))
    return data


def draws_of(samples) -> list:
    """What is random about each image, as the term draws it: the procedure is handed numbers."""
    def generators(purpose):
        return Batch(torch.empty(0), samples).generators(purpose)

    draws = []
    grid = [round(side / OTHERS['masked']['block']) for side in SIZE]
    for mix, strong, weak, masked, mask in zip(*map(
            generators, ('ClassMix', 'strong', 'weak', 'masked', 'mask'))):
        one = dict(classes=torch.rand(NUM_CLASSES + 1, generator=mix).tolist())
        jitter, smooth, sigma = torch.rand(3, generator=strong).tolist()
        one.update(jitter=jitter, blur=smooth, sigma=sigma, weak=torch.rand(
            1, generator=weak).item())
        jitter, smooth, sigma = torch.rand(3, generator=masked).tolist()
        one.update(masked_jitter=jitter, masked_blur=smooth, masked_sigma=sigma,
                   mask=torch.rand(grid, generator=mask).tolist())
        for prefix, generator in (('', strong), ('weak_', weak), ('masked_', masked)):
            numbers = torch.rand(8, generator=generator).tolist()
            one.update({f'{prefix}shifts': numbers[:4], f'{prefix}order': np.argsort(numbers[4:])})
        draws.append(one)
    return draws


def naive_jitter(image: np.ndarray, shifts, order) -> np.ndarray:
    """(3, H, W), pixel by pixel in HSV."""
    for place in order:
        shift = shifts[place]
        if place == 0:
            image = np.clip(image + shift, 0, 1)
        elif place == 1:
            image = np.clip(image * (1 + shift), 0, 1)
        else:
            pixels = []
            for pixel in image.reshape(3, -1).T:
                h, s, v = colorsys.rgb_to_hsv(*pixel)
                if place == 2:
                    s = min(1, s * (1 + shift))
                else:
                    h = (h + shift) % 1
                pixels.append(colorsys.hsv_to_rgb(h, s, v))
            image = np.array(pixels).T.reshape(image.shape)
    return image


def naive_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    return np.stack([gaussian_filter(channel, sigma, mode='mirror', radius=5) for channel in image])


class Sequential:
    """Self-training as one procedure, from the papers and descriptions of their code.

    Of the project it uses the networks, nothing else.
    """

    def __init__(self, model, ema_at, alpha, ema_of='parameters', teacher_mode='train',
                 mirrored=False, weak_jitter=False, q_of='batch', mean_over='all', margins=(0, 0),
                 classes_of='image', jitter=0.2, loss_weight=1., others=()):
        self.student = nn.ModuleDict(dict(E=model.backbone, S=model.decode_head))
        self.teacher = deepcopy(self.student)
        self.imagenet = deepcopy(model.backbone)
        self.imagenet.eval()
        self.optimizer, = sequential_optimizers(model)
        self.o = dict(locals())
        self.iteration = 0

    def ema(self):
        alpha = min(1 - 1 / (self.iteration + 1), self.o['alpha'])
        with torch.no_grad():
            for old, new in zip(self.teacher.parameters(), self.student.parameters()):
                old.copy_(alpha * old + (1 - alpha) * new)
            if self.o['ema_of'] == 'state':
                for old, new in zip(self.teacher.buffers(), self.student.buffers()):
                    if old.is_floating_point():
                        old.copy_(alpha * old + (1 - alpha) * new)
                    else:
                        old.copy_(new)

    @staticmethod
    def strong(image, d, prefix, strength):
        image = image.numpy()
        if d[f'{prefix}jitter'] < 0.8:
            shifts = [strength * (2 * u - 1) for u in d[f'{prefix}shifts']]
            image = naive_jitter(image, shifts, d[f'{prefix}order'])
        if d[f'{prefix}blur'] < 0.5:
            image = naive_blur(image, 0.15 + d[f'{prefix}sigma'])
        return torch.from_numpy(image)

    def feature_distance(self, x, images, label):
        """Cell by cell."""
        options = OTHERS['feature_distance']
        with torch.no_grad():
            taught = self.imagenet(images)[-1]
        (height, width), (h, w), kept = SIZE, x.shape[2:], []
        for n in range(len(x)):
            for i in range(h):
                for j in range(w):
                    cell = label[n, i * height // h:-(-(i + 1) * height // h),
                                 j * width // w:-(-(j + 1) * width // w)]
                    if any((cell == c).double().mean() >= options['min_ratio']
                           for c in options['classes']):
                        kept.append((x[n, :, i, j] - taught[n, :, i, j]).norm())
        assert 0 < len(kept) < len(x) * h * w
        (options['loss_weight'] * sum(kept) / len(kept)).backward()

    def masked(self, images, draws, normal, pseudo, q):
        options, hidden = OTHERS['masked'], []
        for image, d in zip(images, draws):
            image = normal(self.strong(image, d, 'masked_', 0.2))
            rows, columns = len(d['mask']), len(d['mask'][0])
            for y in range(SIZE[0]):
                for x in range(SIZE[1]):
                    if d['mask'][y * rows // SIZE[0]][x * columns // SIZE[1]] <= options['ratio']:
                        image[:, y, x] = 0
            hidden.append(image)
        loss, _ = self.learn('masked', torch.stack(hidden), pseudo, q)
        (options['loss_weight'] * loss).backward()

    @staticmethod
    def logits(network, images):
        return F.interpolate(network['S'](network['E'](images)), SIZE, mode='bilinear',
                             align_corners=True)

    def learn(self, name, images, label, weight, mean_over='all'):
        """The student's loss in a pass, and its last features."""
        x = self.student['E'](images)
        logits = F.interpolate(self.student['S'](x), SIZE, mode='bilinear', align_corners=True)
        return self.cross_entropy(logits, label, weight, mean_over), x[-1]

    @staticmethod
    def cross_entropy(logits, label, weight, mean_over='all'):
        valid = label != 255
        log_p = logits.log_softmax(1).gather(1, label.where(valid, 0)[:, None])[:, 0]
        number = valid.sum() if mean_over == 'valid' else valid.numel()
        return -(log_p * valid * weight).sum() / number

    def step(self, data, draws):
        o = self.o
        if o['ema_at'] == 'start':
            self.ema()
        self.student.train()
        self.teacher.train(o['teacher_mode'] == 'train')
        self.optimizer.zero_grad()
        raw = {domain: torch.stack(part['inputs']).double() / 255 for domain, part in data.items()}
        label = torch.stack([s.gt_sem_seg.data[0] for s in data['source']['data_samples']])

        def normal(images):
            return (images * 255 - MEAN) / STD

        # The teacher.
        with torch.no_grad():
            p = self.logits(self.teacher, normal(raw['target'])).softmax(1)
            if o['mirrored']:
                mirror = self.logits(self.teacher, normal(raw['target'].flip(3))).softmax(1)
                p = (p + mirror.flip(3)) / 2
        sure, pseudo = p.max(1)
        height, width = SIZE
        weight = torch.empty(sure.shape).double()
        for i in range(len(sure)):
            looked = sure if o['q_of'] == 'batch' else sure[i]
            weight[i] = sum(v >= THRESHOLD for v in looked.flatten().tolist()) / looked.numel()
        weight[:, :o['margins'][0]] = 0
        weight[:, height - o['margins'][1]:] = 0
        q = weight.clone()
        # Weak augmentation.
        clean = dict(raw)
        if o['weak_jitter']:
            strengths = (32 / 255, 0.5, 0.5, 0.05)
            for domain in clean:
                clean[domain] = torch.stack([torch.from_numpy(naive_jitter(
                    image.numpy(), [s * (2 * u - 1) for s, u in zip(strengths, d['weak_shifts'])],
                    d['weak_order'])) if d['weak'] < 0.9 else image
                    for image, d in zip(raw[domain], draws[domain])])
        # The source.
        loss, x = self.learn('source', normal(clean['source']), label, torch.ones(label.shape),
                             'valid')
        loss.backward(retain_graph=True)
        if 'feature_distance' in o['others']:
            self.feature_distance(x, normal(clean['source']), label)
        # Mixing.
        mixed, mixed_label = [], []
        for i, d in enumerate(draws['target']):
            of = label if o['classes_of'] == 'batch' else label[i]
            classes = sorted(set(of.flatten().tolist()),
                             key=lambda c: d['classes'][min(c, NUM_CLASSES)])
            chosen = classes[:(len(classes) + 1) // 2]
            image, truth = clean['target'][i].clone(), pseudo[i].clone()
            for y in range(height):
                for x in range(width):
                    if int(label[i, y, x]) in chosen:
                        image[:, y, x] = raw['source'][i, :, y, x]
                        truth[y, x] = label[i, y, x]
                        weight[i, y, x] = 1
            mixed.append(self.strong(image, d, '', o['jitter']))
            mixed_label.append(truth)
        loss, _ = self.learn('mixed', normal(torch.stack(mixed)), torch.stack(mixed_label), weight,
                             o['mean_over'])
        (o['loss_weight'] * loss).backward()
        if 'masked' in o['others']:
            self.masked(raw['target'], draws['target'], normal, pseudo, q)
        self.optimizer.step()
        if o['ema_at'] == 'end':
            self.ema()
        self.iteration += 1


@pytest.mark.parametrize('name', SETS)
def test_five_iterations_are_the_sequential_procedures(name):
    model = build(cfg=cfg_with(**SETS[name])).train()
    procedure = Sequential(build(cfg=model_cfg(False, False)).train(), **SETS[name])
    wrapper = build_optim_wrapper(model, optim_cfg())
    generator = torch.Generator().manual_seed(0)
    confident = []
    for iteration in range(5):
        data = data_of(iteration, generator)
        log = model.train_step(deepcopy(data), wrapper)
        confident.append(float(log['self_training.confident']))
        procedure.step(data, {domain: draws_of(part['data_samples'])
                              for domain, part in data.items()})
    assert any(0.05 < value < 0.95 for value in confident), confident
    if SETS[name]['ema_at'] == 'start':
        procedure.ema()  # of the sixth
    teacher = model.terms['self_training'].teacher
    for ours, theirs in ((model, procedure.student), (teacher, procedure.teacher)):
        for part, key in (('backbone', 'E'), ('decode_head', 'S')):
            state = getattr(ours, part).state_dict()
            for entry, value in theirs[key].state_dict().items():
                torch.testing.assert_close(state[entry], value, rtol=0, atol=1e-10,
                                           msg=f'{part}.{entry}')


def labelling(logits, **options) -> PseudoLabels:
    """A term whose teacher gives these logits, (N, C, H, W)."""
    term = PseudoLabels(num_classes=logits.shape[1], **options)

    class Given(nn.Module):
        decode_head, align_corners = SimpleNamespace(ignore_index=255), False

        def forward(self, inputs):
            return logits

    term.teacher = Given()
    return term


def images(count: int, height: int, width: int) -> Batch:
    return Batch(torch.zeros(count, 3, height, width), [
        SegDataSample(metainfo=dict(seed=(index, ))) for index in range(count)])


# Two classes; images of 1 x 4 pixels with the first class at these probabilities.
P = torch.tensor([[0.9, 0.75, 0.25, 0.5], [0.1, 0.5, 0.5, 0.5]]).double()
EDGE = float((LOGITS := torch.stack([P, 1 - P], dim=1)[:, :, None].log()).softmax(1)[0, 0, 0, 1])


@pytest.mark.parametrize('threshold,q', [
    (0., (1., 1.)), (EDGE, (0.75, 0.25)), (np.nextafter(EDGE, 1), (0.25, 0.25)), (1., (0., 0.))])
def test_q_counts_pixels_from_the_threshold_on(threshold, q):
    for q_of, expected in (('image', torch.tensor(q)), ('batch', torch.tensor(q).mean().repeat(2))):
        labels, weights = labelling(LOGITS, threshold=threshold, q_of=q_of).pseudo_labels(
            images(2, 1, 4))
        assert labels.tolist()[0] == [[0, 0, 1, 0]]
        torch.testing.assert_close(weights, expected.double()[:, None, None].expand(2, 1, 4))


def test_a_threshold_of_one_is_reached_by_certainty():
    logits = torch.zeros(1, 2, 1, 2)
    logits[:, 0, :, 0] = 1000
    _, weights = labelling(logits, threshold=1.).pseudo_labels(images(1, 1, 2))
    assert (weights == 0.5).all()


def test_margins_have_no_weight_but_count_in_q():
    logits = torch.zeros(1, 2, 5, 1)
    logits[:, 0, :2] = 100
    term = labelling(logits, margins=(1, 2))
    batch = images(1, 5, 1)
    assert term.pseudo_labels(batch)[1][0, :, 0].tolist() == pytest.approx([0, 0.4, 0.4, 0, 0])
    # Those that the data set has marked, too.
    trusted = torch.tensor([True, True, False, True, True]).view(1, 5, 1)
    batch.data_samples[0].trusted = PixelData(data=trusted)
    assert term.pseudo_labels(batch)[1][0, :, 0].tolist() == pytest.approx([0, 0.4, 0, 0, 0])


@pytest.mark.parametrize('q_of,expected', [('image', (1, 1 / 2)), ('batch', (5 / 6, 5 / 6))])
def test_padding_has_no_label_and_does_not_count_in_q(q_of, expected):
    logits = torch.zeros(2, 2, 2, 4)
    logits[0, 1], logits[1, 1, 0] = 100, 100  # all of the first image, a row of the second
    term = labelling(logits, q_of=q_of)
    padded = images(2, 2, 4)
    # As mmseg's preprocessor notes it: the first image has 1 of 2 rows, the second 1 of 4 columns.
    for sample, padding in zip(padded.data_samples, ((0, 0, 0, 1), (0, 3, 0, 0))):
        sample.set_metainfo(dict(padding_size=padding))
    labels, weights = term.pseudo_labels(padded)
    assert labels.tolist() == [[[1] * 4, [255] * 4], [[1, 255, 255, 255], [0, 255, 255, 255]]]
    assert weights[:, 0, 0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize('ema_at,expected', [
    # theta is 0, then 1, 2, 3, 4; the mean of all that count, until alpha holds.
    ('start', (0.5, 1., 0.75 * 1 + 0.25 * 3, 0.75 * 1.5 + 0.25 * 4)),
    ('end', (1., 1.5, 2., 0.75 * 2 + 0.25 * 4))])
def test_first_steps_of_the_average(ema_at, expected):
    model = build(cfg=cfg_with(alpha=0.75, ema_at=ema_at))
    term = model.terms['self_training']
    weight = next(model.backbone.parameters())
    averaged = next(term.teacher.backbone.parameters())

    def theta(value):
        with torch.no_grad():
            weight.fill_(value)

    theta(0.)
    averaged.fill_(7.)
    data = data_of(0, torch.Generator().manual_seed(0))
    wrapper = build_optim_wrapper(model, optim_cfg())
    for _ in range(2):  # gradients accumulate: no update yet
        model.prepare(deepcopy(data), wrapper)
        assert (averaged == 0).all()
    for step, value in enumerate(expected, 1):
        theta(float(step))
        term.after_iter()
        torch.testing.assert_close(averaged, torch.full_like(averaged, value), rtol=0, atol=1e-12)


def mix(labels, classes_of='image', **options):
    """ClassMix of source images of ones, with these labels, and target images of zeros."""
    model = build(cfg=cfg_with(classes_of=classes_of, **options))
    count, height, width = labels.shape
    target = images(count, height, width).labelled(
        torch.zeros_like(labels), torch.full(labels.shape, 0.25))
    source = Batch(torch.ones(count, 3, height, width), []).labelled(labels)
    source.data_samples = [SegDataSample(gt_sem_seg=PixelData(data=label[None]))
                           for label in labels]
    return model.terms['self_training'].class_mix(source, target)


@pytest.mark.parametrize('number', [1, 2, 3, 4, 5])
def test_half_of_the_classes_are_pasted(number):
    labels = torch.arange(20).remainder(number).view(1, 4, 5).repeat(8, 1, 1)
    mixed = mix(labels)
    chosen = set()
    for image, label, got, weight in zip(mixed.inputs, labels, mixed.labels, mixed.weights):
        pasted = image[0] == 1
        classes = {*label[pasted].tolist()}
        chosen.add(tuple(sorted(classes)))
        assert len(classes) == (number + 1) // 2
        assert not classes & {*label[~pasted].tolist()}
        assert torch.equal(got, label.where(pasted, 0))
        assert torch.equal(weight, torch.ones_like(weight).where(pasted, 0.25))
    assert (len(chosen) > 1) == (number > 1)  # images have draws of their own


def test_pixels_to_be_ignored_are_a_class():
    labels = torch.full((8, 2, 4), 255)
    labels[:, 0] = 3
    mixed = mix(labels)
    pasted = mixed.inputs[:, 0] == 1
    assert (mixed.labels[pasted] == 255).any() and (mixed.labels[pasted] == 3).any()
    assert torch.equal(mixed.weights, torch.where(pasted, 1, 0.25).to(mixed.weights))


def test_classes_of_a_batch():
    """Of images with one class each: each is pasted or not, as it is drawn of all of them."""
    labels = torch.arange(4)[:, None, None].expand(4, 2, 2).repeat(8, 1, 1)
    pasted = (mix(labels, 'batch').inputs == 1).flatten(1)
    assert (pasted.all(dim=1) == pasted.any(dim=1)).all() and 4 < pasted[:, 0].sum() < 28
    assert (mix(labels, 'image').inputs == 1).all()


@pytest.mark.parametrize('shifts', [(0.2, 0, 0, 0), (0, -0.2, 0, 0), (0, 0, 0.2, 0), (0, 0, 0, 0.2),
                                    (-0.2, 0.2, -0.2, -0.2), (0, 0, 0, 0), (0, 0, 3., 1.)])
def test_jitter_is_that_of_pixels_in_hsv(shifts):
    image = torch.rand(3, 6, 7, generator=torch.Generator().manual_seed(0)).double()
    image[:, 0] = image[:1, 0]  # grey
    image[:, 1] = 0
    image[:, 2] = 1
    order = (3, 0, 2, 1)
    got = colour_jitter(image, shifts, order)
    np.testing.assert_allclose(got.numpy(), naive_jitter(image.numpy(), shifts, order), atol=1e-12)
    if not any(shifts):
        torch.testing.assert_close(got, image, rtol=0, atol=1e-12)


def test_hue_turns_and_saturation_vanishes():
    red = torch.tensor([1., 0, 0])[:, None, None]
    torch.testing.assert_close(turn_hue(red, 1 / 3), red.roll(1, 0))
    torch.testing.assert_close(turn_hue(red, -1 / 3), red.roll(2, 0))
    assert (saturate(torch.rand(3, 2, 2), 0.).std(dim=0) < 1e-6).all()


def test_blur_is_scipys():
    image = torch.rand(3, 9, 12, generator=torch.Generator().manual_seed(0)).double()
    np.testing.assert_allclose(blur(image, 0.8).numpy(), naive_blur(image.numpy(), 0.8), atol=1e-12)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(blur(image.float(), 0.8), blur(image.float(), 0.8).float())
    torch.testing.assert_close(blur(torch.ones(3, 9, 9), 1.15), torch.ones(3, 9, 9))


def test_the_teacher_runs_once_without_a_graph_and_learns_by_its_average_alone():
    model = build(cfg=cfg_with()).train()
    wrapper = build_optim_wrapper(model, optim_cfg())
    teacher = model.terms['self_training'].teacher
    calls, forward = [], teacher.forward
    teacher.forward = lambda x: calls.append(forward(x)) or calls[-1]
    model.train_step(data_of(0, torch.Generator().manual_seed(0)), wrapper)
    assert len(calls) == 1 and not calls[0].requires_grad
    known = {id(p) for part in wrapper.values() for group in part.param_groups
             for p in group['params']}
    assert not known & {id(p) for p in teacher.parameters()}
    assert teacher.auxiliary_head is None


def test_modes_of_the_teacher():
    """Dropout and stochastic depth are always off."""
    class DropPath(nn.Identity):
        pass

    for mode in ('train', 'eval'):
        model = build(cfg=cfg_with(teacher_mode=mode, ema_of='state'))
        teacher = model.terms['self_training'].teacher
        teacher.decode_head.path = DropPath()
        teacher.decode_head.drop = nn.Dropout2d()
        model.train()
        assert teacher.backbone.bn1.training == (mode == 'train')
        assert not teacher.decode_head.path.training and not teacher.decode_head.drop.training
        model.eval()
        assert not teacher.backbone.bn1.training


@pytest.mark.parametrize('options,message', [
    (dict(threshold=1.5), 'threshold of SelfTraining is 1.5: give a number from 0 to 1'),
    (dict(alpha=-0.1), 'alpha of SelfTraining is -0.1: give a number from 0 to 1'),
    (dict(ema_at='noon'), "ema_at of SelfTraining is 'noon': choose start or end"),
    (dict(classes_of='world'), "classes_of of SelfTraining is 'world': choose image or batch"),
])
def test_bad_settings_are_named(options, message):
    with pytest.raises(InputError, match=message):
        SelfTraining(num_classes=NUM_CLASSES, **options)


def test_what_cannot_go_together_is_named():
    model = build(cfg=cfg_with()).train()
    with pytest.raises(InputError, match=r'cannot be mixed with .* crop_size in both pipelines'):
        model.train_step(domains(torch.Generator()), build_optim_wrapper(model, optim_cfg()))
    model = build(cfg=cfg_with(teacher_mode='eval')).train()
    with pytest.raises(InputError, match="set ema_of='state', or teacher_mode='train'"):
        model.train_step(data_of(0, torch.Generator()), build_optim_wrapper(model, optim_cfg()))


def test_pictures_show_what_is_mixed():
    model = build(cfg=cfg_with()).train()
    data = dict(data_of(0, torch.Generator().manual_seed(0)), pictures={})
    model.train_step(data, build_optim_wrapper(model, optim_cfg()))
    pictures = data['pictures']['mixed']
    assert {'image', 'logits', 'label', 'pseudo-label', 'weight'} == pictures.keys()
    drawn = panel(pictures, np.zeros((NUM_CLASSES, 3), np.uint8), rgb=False)
    assert drawn.shape == (SIZE[0] + TITLE, 6 * SIZE[1], 3)  # the prediction and its entropy, too


def test_the_teacher_may_be_tested_in_the_students_place():
    model = build(cfg=cfg_with())
    cfg = cfg_with()
    cfg.test_cfg.model = 'teacher'
    tested = build(cfg=cfg)
    state = model.state_dict()
    teacher = model.terms['self_training'].teacher
    for p in teacher.parameters():
        p.data.add_(0.1)
    tested.load_state_dict(state)
    for one in (model, tested):
        one.eval()
    images = torch.randn(1, 3, *SIZE).double()
    with torch.no_grad():
        got = tested(images, mode='predict')[0].seg_logits.data
        assert torch.equal(got, teacher(images, mode='predict')[0].seg_logits.data)
        assert not torch.equal(got, model(images, mode='predict')[0].seg_logits.data)


@pytest.mark.parametrize('terms,test_cfg', [
    ({}, dict(model='teacher')),
    (cfg_with()['terms'], dict(model='teacher', statistics='source'))])
def test_a_teacher_that_cannot_be_tested_is_named(terms, test_cfg):
    with pytest.raises(InputError, match="'teacher' needs a term with a teacher, such as Self"):
        build(cfg=model_cfg(False, False, terms=terms, test_cfg=dict(mode='whole', **test_cfg),
                            batch_statistics='per_domain'))
