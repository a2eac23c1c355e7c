from typing import Dict, Tuple

import torch
import torch.nn.functional as F
from mmengine.dist import get_world_size
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmseg.registry import MODELS
from torch import Tensor, nn

from structseg_mmseg.bounds import Count, Natural, Weight
from structseg_mmseg.errors import InputError, NonFiniteLossError
from structseg_mmseg.models.data_preprocessor import takes_rgb
from structseg_mmseg.models.adaptation import frozen


@MODELS.register_module()
class CycleGAN(BaseModel):
    r"""Translates images between two domains that share no image (Zhu, Park, Isola, Efros, 2017).

    With the generators F: S -> T and G: T -> S and the discriminators D_T and D_S, an iteration
    first lets F and G minimise

    .. math::

        (D_T(F(s)) - 1)^2 + (D_S(G(t)) - 1)^2
        + \lambda (|G(F(s)) - s| + |F(G(t)) - t|) + \mu \lambda (|F(t) - t| + |G(s) - s|),

    then D_T and D_S :math:`((D(x) - 1)^2 + D(\hat x)^2) / 2` on real images x and translated ones
    from a pool; all terms are means. No label is read. This is stage 1 of CyCADA on streets, where
    its semantic loss was left out; what F makes of the source is another source.

    It trains in an ``AdaptationTrainLoop``, in one process; pools are in the checkpoint and draw
    from torch's generator, which the loop seeds for each iteration, so it resumes exactly.

    Args:
        generator (dict): Config of F and of G.
        discriminator (dict): Config of D_T and of D_S.
        crop_size (tuple[int, int]): Height and width of the images that it trains on.
        pool_size (int): How many translated images a discriminator's pool holds.
        cycle_weight (float): :math:`\lambda`.
        identity_weight (float): :math:`\mu`.
        **kwargs: As in ``BaseModel``; ``data_preprocessor`` is mmseg's and gives [-1, 1].
    """

    adapts = True  # training needs target images

    def __init__(self,
                 generator: dict,
                 discriminator: dict,
                 crop_size: Tuple[Count, Count],
                 pool_size: Natural = 50,
                 cycle_weight: Weight = 10.,
                 identity_weight: Weight = 0.5,
                 **kwargs) -> None:
        super().__init__(**kwargs)
        if get_world_size() > 1:
            raise InputError('a CycleGAN trains in one process, as its pools hold what one process '
                             'has translated: start tools/train.py without a launcher')
        self.to_target, self.to_source = (MODELS.build(generator) for _ in range(2))
        self.target_discriminator, self.source_discriminator = (
            MODELS.build(discriminator) for _ in range(2))
        self.target_pool, self.source_pool = (ImagePool(pool_size, crop_size) for _ in range(2))
        self.crop_size = tuple(crop_size)
        self.cycle_weight = cycle_weight
        self.identity_weight = identity_weight

    def train_step(self, data: Dict[str, dict], optim_wrapper: OptimWrapper) -> Dict[str, Tensor]:
        """One step of the generators, then one of the discriminators.

        Args:
            data (dict): Batches ``source`` and ``target`` as the loaders collate them.
            optim_wrapper (OptimWrapper): An :class:`AdaptationOptimWrapper` of the parts
                ``generators`` and ``discriminators``.

        Returns:
            dict[str, Tensor]: The losses, weighted.

        Raises:
            NonFiniteLossError: If a loss is NaN or infinite.
        """
        source, target = (self._images(domain, data[domain]) for domain in ('source', 'target'))
        with optim_wrapper.optim_context(self):
            fake_target, fake_source = self.to_target(source), self.to_source(target)
            cycle = (F.l1_loss(self.to_source(fake_target), source)
                     + F.l1_loss(self.to_target(fake_source), target))
            identity = (F.l1_loss(self.to_target(target), target)
                        + F.l1_loss(self.to_source(source), source))
            losses = dict(
                loss_gan=_distance(frozen(self.target_discriminator, fake_target), 1)
                + _distance(frozen(self.source_discriminator, fake_source), 1),
                loss_cycle=self.cycle_weight * cycle,
                loss_identity=self.cycle_weight * self.identity_weight * identity)
        logs = self._step('generators', losses, optim_wrapper)
        losses = {}
        with optim_wrapper.optim_context(self):
            for domain, real, fake in (('target', target, fake_target),
                                       ('source', source, fake_source)):
                judge = getattr(self, f'{domain}_discriminator')
                shown = getattr(self, f'{domain}_pool')(fake.detach())
                losses[f'loss_{domain}'] = (_distance(judge(real), 1)
                                            + _distance(judge(shown), 0)) / 2
        logs.update(self._step('discriminators', losses, optim_wrapper))
        return logs

    def _images(self, domain: str, data: dict) -> Tensor:
        images = self.data_preprocessor(data, True)['inputs']
        if images.shape[2:] != self.crop_size:
            sizes = ['x'.join(map(str, size)) for size in (images.shape[2:], self.crop_size)]
            raise InputError(f'the {domain} gives images of {sizes[0]} (height x width) where '
                             f'model.crop_size is {sizes[1]}: crop to it in the pipeline')
        return images

    def _step(self, part: str, losses: Dict[str, Tensor],
              optim_wrapper: OptimWrapper) -> Dict[str, Tensor]:
        """Update a part by the sum of its losses; these, by the names in the log."""
        loss, logs = self.parse_losses(losses)
        if not loss.isfinite():
            raise NonFiniteLossError(f'the loss of the {part} is not finite: lower '
                                     f'optim_wrapper.{part}.optimizer.lr and --resume')
        optim_wrapper.backward(loss)
        optim_wrapper.update(parts=[part])
        return {f'{part}.{name}': value for name, value in logs.items()}

    def forward(self, inputs: Tensor, data_samples: object = None, mode: str = 'tensor') -> Tensor:
        """Translate source images into the target's style.

        Args:
            inputs (Tensor): Normalised source images (N, 3, H, W).
            data_samples (object): Unused.
            mode (str): ``tensor`` or ``predict``.

        Returns:
            Tensor: (N, 3, H, W): images in [-1, 1], or, to ``predict``, of any size and as those
            that the preprocessor is given: uint8, its order of channels.
        """
        if mode == 'tensor':
            return self.to_target(inputs)
        height, width = inputs.shape[2:]
        stride = self.to_target.stride
        inputs = F.pad(inputs, (0, -width % stride, 0, -height % stride), mode='reflect')
        images = self.to_target(inputs)[..., :height, :width]
        images = images * self.data_preprocessor.std + self.data_preprocessor.mean
        if takes_rgb(self.data_preprocessor):
            images = images.flip(1)
        return images.round().clamp(0, 255).byte()


class ImagePool(nn.Module):
    """Translated images of the past, so that a discriminator does not forget them.

    Until it is full, an image enters it and is shown. Then every second image, by chance, takes the
    place of another, which is shown instead.

    Args:
        size (int): How many images it holds.
        image_size (tuple[int, int]): Their height and width.
    """

    images: Tensor
    count: Tensor

    def __init__(self, size: int, image_size: Tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer('images', torch.zeros(size, 3, *image_size))
        self.register_buffer('count', torch.tensor(0))

    def forward(self, images: Tensor) -> Tensor:
        """What to show for new images (N, 3, H, W); as many."""
        shown = images.clone()
        for index, image in enumerate(images):
            if self.count < len(self.images):
                self.images[self.count] = image
                self.count += 1
            elif torch.rand(()) < 0.5:
                place = torch.randint(len(self.images), ())
                shown[index] = self.images[place]
                self.images[place] = image
        return shown


def _distance(scores: Tensor, truth: float) -> Tensor:
    """The least-squares loss: mean of (D(x) - truth)^2."""
    return (scores - truth).square().mean()
