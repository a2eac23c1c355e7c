"""Small models, their batches, and the methods written naively."""
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.structures import PixelData
from mmseg.models import SegDataPreProcessor
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

import tests.helpers.amp  # noqa: F401  registers CPUAmpOptimWrapper

NUM_CLASSES = 5
# The paper's experiments and one more: reconstruction, adversary, target statistics alone.
ABLATIONS = {
    'source-only': (False, False),
    'target-statistics': (False, False, True),
    'feature-level': (True, False),
    'output-level': (False, True),
    'full': (True, True),
}


@MODELS.register_module()
class DoublePreProcessor(SegDataPreProcessor):
    """mmseg's preprocessor, in float64: the stock one casts images to float32."""

    def forward(self, data: dict, training: bool = False) -> dict:
        data = self.cast_data(data)
        images = [image.double() for image in data['inputs']]
        stats = [(image - self.mean) / self.std for image in images]
        return dict(inputs=torch.stack(stats), data_samples=data['data_samples'])


def model_cfg(reconstruction: bool = True, adversary: bool = True, statistics: bool = False,
              **kwargs) -> dict:
    """The method on a ResNet-18 of 1/8 width at stride 8, with live batch statistics."""
    cfg = dict(
        type='AdvReconSegmentor',
        data_preprocessor=dict(
            type='SegDataPreProcessor', mean=[104., 116., 122.], std=[58., 57., 56.],
            size_divisor=1),
        backbone=dict(
            type='ResNet', depth=18, stem_channels=8, base_channels=8, strides=(1, 2, 1, 1),
            dilations=(1, 1, 2, 4), out_indices=(3, )),
        decode_head=dict(
            type='DeepLabV2Head', in_channels=64, dilations=(1, 2), num_classes=NUM_CLASSES,
            align_corners=True, loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True)),
        # Large weights, so that no term hides below the tolerance of a test.
        terms=dict(
            reconstruction=dict(
                type='Reconstruction',
                decoder=dict(type='ReconstructionDecoder', in_channels=64, stride=8, channels=16,
                             num_blocks=1),
                loss_weight=1e-3) if reconstruction else None,
            adversary=dict(
                type='Adversary',
                discriminator=dict(type='ASPPDiscriminator', channels=4),
                loss_weight=0.3) if adversary else None,
            statistics=dict(type='TargetStatistics') if statistics else None),
        test_cfg=dict(mode='whole'))
    cfg.update(kwargs)
    return ConfigDict(cfg)


def normed_cfg(reconstruction: bool = True, adversary: bool = True,
               statistics: bool = False) -> dict:
    """``model_cfg`` with batch normalisation in S, G and D, too."""
    cfg = model_cfg(reconstruction, adversary, statistics)
    cfg['decode_head'].update(type='FCNHead', channels=8, num_convs=1, dropout_ratio=0,
                              norm_cfg=dict(type='BN'))
    cfg['decode_head'].pop('dilations')
    if reconstruction:
        cfg['terms']['reconstruction']['decoder'].update(norm_cfg=dict(type='BN'))
    if adversary:
        cfg['terms']['adversary']['discriminator'].update(type='NormedDiscriminator')
    return cfg


@MODELS.register_module()
class NormedDiscriminator(nn.Sequential):
    """A discriminator with batch normalisation."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels),
            nn.LeakyReLU(0.2), nn.Conv2d(channels, 1, 1))


def optim_cfg(fused: bool = False, **kwargs) -> dict:
    return dict(
        constructor='AdaptationOptimWrapperConstructor',
        type='OptimWrapper',
        segmentor=dict(
            optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4, fused=fused),
            paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10)))),
        reconstruction=dict(optimizer=dict(type='Adam', lr=2e-3, betas=(0.9, 0.99), fused=fused)),
        adversary=dict(optimizer=dict(type='Adam', lr=1e-3, betas=(0.9, 0.99), fused=fused)),
        **kwargs)


def batch(generator: torch.Generator, height: int, width: int, labelled: bool,
          size: int = 2) -> dict:
    """A batch as mmengine's loaders collate it; a fifth of the labels is to be ignored."""
    images, samples = [], []
    for index in range(size):
        images.append(torch.randint(0, 256, (3, height, width), generator=generator,
                                    dtype=torch.uint8))
        sample = SegDataSample(metainfo=dict(
            img_shape=(height, width), ori_shape=(height, width), seed=(index, )))
        if labelled:
            label = torch.randint(0, NUM_CLASSES, (1, height, width), generator=generator)
            ignored = torch.rand(1, height, width, generator=generator) < 0.2
            label[ignored] = 255
            sample.gt_sem_seg = PixelData(data=label)
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


LAMBDA_REC, LAMBDA_ADV = 1e-3, 0.3  # of model_cfg


def build(seed: int = 0, double: bool = True, cfg=None, **kwargs):
    torch.manual_seed(seed)
    cfg = cfg or model_cfg(**kwargs)
    if double:
        cfg['data_preprocessor'].update(type='DoublePreProcessor')
    model = MODELS.build(cfg)
    model.init_weights()
    return model.double() if double else model


def domains(generator, size: int = 2, valid: bool = False, alike: bool = False) -> dict:
    """A batch of each domain, of one image size if they are to be alike.

    No label is to be ignored if all are to be valid.
    """
    # Neither size is a multiple of the stride, so features reach past the image.
    data = dict(source=batch(generator, 36, 52, labelled=True, size=size),
                target=batch(generator, *(36, 52) if alike else (28, 44), labelled=False,
                             size=size))
    if valid:
        for sample in data['source']['data_samples']:
            sample.gt_sem_seg.data.clamp_(max=NUM_CLASSES - 1)
    return data


def iterate(model, optim: dict, share=slice(None), alike: bool = False) -> None:
    """Three iterations on batches of four, or on a rank's share of them."""
    wrapper = build_optim_wrapper(model, optim)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        data = domains(generator, size=4, valid=True, alike=alike)
        model.train_step({domain: {key: value[share] for key, value in part.items()}
                          for domain, part in data.items()}, wrapper)


def networks(model) -> tuple:
    """G and D, each None where the model has not its term."""
    reconstruction, adversary = (
        model.terms[name] if name in model.terms else None
        for name in ('reconstruction', 'adversary'))
    return (reconstruction and reconstruction.decoder, adversary and adversary.discriminator)


def sequential_step(model, optimizers, data, mode: str, max_norm: float = float('inf')) -> None:
    """One iteration, naively: a backward for each term, D's parameters frozen by hand.

    The gradients of each optimizer are scaled down to ``max_norm``, as by torch's clip_grad_norm_.

    Written from the paper and from the description of reference [14]; of the project it uses the
    networks, nothing else.
    """
    E, S, (G, D) = model.backbone, model.decode_head, networks(model)
    mean = torch.tensor([104., 116., 122.]).double().view(3, 1, 1)
    std = torch.tensor([58., 57., 56.]).double().view(3, 1, 1)
    encoder = list(E.parameters())
    for optimizer in optimizers:
        optimizer.zero_grad()
    E_grads = {'segmentation': [torch.zeros_like(p) for p in encoder],
               'reconstruction': [torch.zeros_like(p) for p in encoder]}

    def backward(loss, branch):
        """Into all parameters but E's, which are kept apart by branch."""
        for p in encoder:
            p.grad = None
        loss.backward(retain_graph=True)
        for total, p in zip(E_grads[branch], encoder):
            total += p.grad

    def reconstruction(x, image):
        raw = (image * std + mean) / 127.5 - 1
        output = G(x)[:, :, :image.shape[2], :image.shape[3]]
        return LAMBDA_REC * (output - raw).abs().sum(dim=(1, 2, 3)).mean()

    predictions = {}
    for domain in ('source', 'target'):
        images = torch.stack([(i.double() - mean) / std for i in data[domain]['inputs']])
        x = E(images)
        logits = S(x)
        predictions[domain] = logits.softmax(1)
        if domain == 'source':
            label = torch.stack([s.gt_sem_seg.data[0] for s in data[domain]['data_samples']])
            up = F.interpolate(logits, size=label.shape[1:], mode='bilinear', align_corners=True)
            valid = label != 255
            picked = up.log_softmax(1).gather(1, label.where(valid, 0)[:, None])[:, 0]
            backward(-picked[valid].mean(), 'segmentation')
        if G is not None:
            backward(reconstruction(x, images), 'reconstruction')
        if D is not None and (domain == 'target' or mode in ('minimax', 'confusion')):
            for p in D.parameters():
                p.requires_grad_(False)
            d = D(predictions[domain])
            if mode == 'confusion':  # "half source, half target"
                loss = F.binary_cross_entropy_with_logits(d, torch.full_like(d, 0.5))
                backward(LAMBDA_ADV * loss, 'segmentation')
            elif domain == 'target':
                loss = {'non_saturating': -torch.log(torch.sigmoid(d)),
                        'minimax': torch.log(1 - torch.sigmoid(d)),
                        'least_squares': (d - 1)**2}[mode].mean()
                backward(LAMBDA_ADV * loss, 'segmentation')
            else:
                backward(LAMBDA_ADV * torch.log(torch.sigmoid(d)).mean(), 'segmentation')
            for p in D.parameters():
                p.requires_grad_(True)
    if D is not None:
        for domain, real in (('source', True), ('target', False)):
            d = D(predictions[domain].detach())
            if mode == 'least_squares':
                loss = ((d - float(real))**2).mean()
            else:
                p = torch.sigmoid(d)
                loss = -(torch.log(p) if real else torch.log(1 - p)).mean()
            loss.backward()
    branches = 1 if G is None else 2
    for p, *grads in zip(encoder, *E_grads.values()):
        p.grad = sum(grads) / branches
    for optimizer in optimizers:
        learnt = [p for group in optimizer.param_groups for p in group['params']]
        norm = sum(p.grad.square().sum() for p in learnt).sqrt()
        for p in learnt:
            p.grad *= min(1, max_norm / (norm + 1e-6))
        optimizer.step()


def sequential_optimizers(model) -> list:
    """What optim_cfg says."""
    optimizers = [torch.optim.SGD(
        [dict(params=model.backbone.parameters(), lr=0.01),
         dict(params=model.decode_head.parameters(), lr=0.1)],
        lr=0.01, momentum=0.9, weight_decay=5e-4)]
    for network, rate in zip(networks(model), (2e-3, 1e-3)):
        if network is not None:
            optimizers.append(torch.optim.Adam(network.parameters(), rate, (0.9, 0.99)))
    return optimizers


CROP = (24, 32)


def translator_cfg(preprocessor='SegDataPreProcessor', **kwargs) -> dict:
    return dict(
        dict(
            type='CycleGAN',
            data_preprocessor=dict(type=preprocessor, mean=[127.5] * 3, std=[127.5] * 3,
                                   size_divisor=1),
            generator=dict(type='ResNetGenerator', channels=4, num_blocks=1),
            discriminator=dict(type='PatchDiscriminator', channels=4),
            crop_size=CROP,
            pool_size=3), **kwargs)
