import logging
from contextlib import nullcontext
from typing import ContextManager, Dict, List, Optional, Tuple

import torch
import torch.nn as nn
from mmengine.dist import all_reduce
from mmengine.logging import MessageHub, print_log
from mmengine.optim import OptimWrapper
from mmseg.models.segmentors import EncoderDecoder
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from mmseg.utils import SampleList, add_prefix
from torch import Tensor
from torch.func import functional_call

from structseg_mmseg.errors import InputError, NonFiniteLossError
from structseg_mmseg.models.batch_statistics import (MODES, SourceStatistics, live_norms,
                                                     target_last)


@MODELS.register_module()
class AdvReconSegmentor(EncoderDecoder):
    r"""An ``EncoderDecoder`` whose training adapts it to a second, unlabelled domain.

    It plays Equation 3: segmentation on the source, reconstruction on both domains (Equation 1),
    and a game with a discriminator on the softmax of both (Equation 2). E of the paper is backbone
    and neck, S the decode head, G the ``reconstructor``, D the ``discriminator``. Either of the
    last two may be None, which gives the paper's ablations; with both None, training is
    ``EncoderDecoder``'s, and target images, if there are any, pass for the statistics of batch
    normalisation alone. Inference is ``EncoderDecoder``'s always, and the state dict is its own but
    for the prefixes of ``training_only``.

    One iteration backpropagates the target first, then the source, then steps every optimizer
    once. This equals the sequential procedure of reference [14] exactly, as no parameter changes
    between the passes, and holds one domain's graph at a time: what the discriminator's loss needs
    of the target, its softmax, is kept without a graph.

    Beside the losses it logs how often D is right, ``discriminator.acc_source`` and ``acc_target``
    in percent, and how strongly each branch pulls at E: ``source.grad_norm_seg`` (segmentation),
    ``target.grad_norm_seg`` (the game) and ``grad_norm_rec`` of both, norms of the gradients that
    reach E's features.

    A config's ``compile=True`` compiles the two passes; what is around them stays as it is.

    Args:
        reconstructor (dict, optional): Config of G, e.g. a ``ReconstructionDecoder``.
        discriminator (dict, optional): Config of D, e.g. an ``ASPPDiscriminator``. It asks for a
            decode head whose ``forward`` gives logits, alone or before other outputs of less than
            four dimensions.
        loss_rec (dict): Config of Equation 1's reconstruction loss.
        loss_adv (dict): Config of Equation 2.
        discriminator_input (str): Whether D sees the softmax of the ``logits`` at their own stride
            or of logits resized to the ``image``, as in [14].
        batch_statistics (str): Which images the running statistics of batch normalisation come
            from: ``both`` domains, the target weighing more, as in [14], the ``target`` alone, or
            one set ``per_domain``; then inference uses the target's, or the source's with
            ``test_cfg.statistics='source'``. It concerns layers that normalise by the batch.
        nonfinite_loss (str): What to do when a loss is NaN or infinite on any rank: ``stop`` the
            run before its parameters take it up, or ``skip`` the step on all ranks.
        channels_last (bool): Whether all networks run on images whose channels lie together in
            memory, which most convolutions are quicker at; nothing but rounding depends on it.
        **kwargs: As in ``EncoderDecoder``.
    """

    # Sub-modules that only training has.
    training_only = ('reconstructor', 'discriminator', 'source_statistics')

    def __init__(self,
                 *args,
                 reconstructor: Optional[dict] = None,
                 discriminator: Optional[dict] = None,
                 loss_rec: dict = dict(type='ReconstructionLoss'),
                 loss_adv: dict = dict(type='AdversarialLoss'),
                 discriminator_input: str = 'logits',
                 batch_statistics: str = 'both',
                 nonfinite_loss: str = 'stop',
                 channels_last: bool = False,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for key, value, choices in (('nonfinite_loss', nonfinite_loss, ('stop', 'skip')),
                                    ('discriminator_input', discriminator_input,
                                     ('logits', 'image')),
                                    ('batch_statistics', batch_statistics, MODES)):
            if value not in choices:
                raise InputError(f'model.{key} is {value!r}: choose '
                                 f'{" or ".join(repr(choice) for choice in choices)}')
        self.nonfinite_loss = nonfinite_loss
        self.discriminator_input = discriminator_input
        self.reconstructor = self.discriminator = None
        if reconstructor is not None:
            self.reconstructor = MODELS.build(reconstructor)
            self.loss_rec = MODELS.build(loss_rec)
        if discriminator is not None:
            self.discriminator = MODELS.build(
                discriminator, default_args=dict(num_classes=self.out_channels))
            self.loss_adv = MODELS.build(loss_adv)
        self.source_statistics = None
        if batch_statistics != 'both':
            self.source_statistics = SourceStatistics(
                self._shared_parts, persistent=batch_statistics == 'per_domain')
        self._grad_norms: Dict[str, List[Tensor]] = {}
        # Of the weights: features follow.
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)

    def init_weights(self) -> None:
        """As in ``EncoderDecoder``: equal seeds give equal weights in either memory format."""
        self.to(memory_format=torch.contiguous_format)  # random numbers are drawn in memory's order
        super().init_weights()
        self.to(memory_format=self.memory_format)

    @property
    def adapts(self) -> bool:
        """Whether training needs target images."""
        return self.reconstructor is not None or self.discriminator is not None

    @property
    def _shared_parts(self) -> List[nn.Module]:
        """What images of both domains pass with their own losses or none."""
        parts = (self.backbone, getattr(self, 'neck', None), self.decode_head, self.reconstructor)
        return [part for part in parts if part is not None]

    @property
    def takes_statistics(self) -> bool:
        """Whether a layer that inference runs normalises by the batch while training."""
        was_training = self.training
        live = live_norms(*self.train()._shared_parts)
        self.train(was_training)
        return bool(live)

    # torch.compile of this method is to reach the passes, not what ties them together.
    @torch.compiler.disable(recursive=False)
    def train_step(self,
                   data: Dict[str, dict],
                   optim_wrapper: OptimWrapper,
                   model: Optional[nn.Module] = None) -> Dict[str, Tensor]:
        """One iteration: target pass, source pass, step.

        Args:
            data (dict): Batches as the loaders collate them: ``source``, with labels, and, unless
                the run is source-only, ``target``.
            optim_wrapper (OptimWrapper): An :class:`AdaptationOptimWrapper`.
            model (nn.Module, optional): The distributed wrapper to run the passes through.

        Returns:
            dict[str, Tensor]: The losses, weighted, their sum ``loss``, and what is logged beside.

        Raises:
            NonFiniteLossError: If a loss is NaN or infinite and the step may not or cannot be
                skipped.
        """
        model = model or self
        logs, target_softmax, statistics = {}, None, nullcontext()
        if 'target' in data:
            # The gradients of both passes are exchanged once, by the source's backward.
            with getattr(model, 'no_sync', nullcontext)():
                with optim_wrapper.optim_context(model), self._statistics('target'):
                    batch = self._preprocess(data['target'])
                    losses, target_softmax = model(batch['inputs'], mode='target_loss')
                if losses:
                    logs['target'] = self._backward('target', losses, optim_wrapper)
            statistics = self._statistics('source')
        with optim_wrapper.optim_context(model), statistics:
            batch = self._preprocess(data['source'])
            losses = model(**batch, mode='loss', target_softmax=target_softmax)
        logs['source'] = self._backward('source', losses, optim_wrapper)
        return self._finish(logs, optim_wrapper)

    def _statistics(self, domain: str) -> ContextManager:
        """A context for a domain's pass, where there are two: what it leaves in the statistics."""
        if self.source_statistics is None:
            return target_last(domain, *self._shared_parts)
        if domain == 'source':
            return self.source_statistics.in_use(self._shared_parts)
        return nullcontext()

    @torch.compiler.disable
    def _preprocess(self, data: dict) -> dict:
        return self.data_preprocessor(data, True)

    @torch.compiler.disable
    def _backward(self, domain: str, losses: Dict[str, Tensor],
                  optim_wrapper: OptimWrapper) -> Dict[str, Tensor]:
        loss, logs = self.parse_losses(losses)
        scale = []  # by which accumulation and mixed precision multiply the loss
        loss.register_hook(scale.append)
        optim_wrapper.backward(loss)
        for branch, norms in self._grad_norms.items():
            if norms:  # none where E is frozen
                logs[f'{domain}.grad_norm_{branch}'] = torch.stack(norms).norm() / scale[0]
        self._grad_norms = {}
        return logs

    @torch.compiler.disable
    def _finish(self, logs: Dict[str, Dict[str, Tensor]],
                optim_wrapper: OptimWrapper) -> Dict[str, Tensor]:
        """Step, unless a loss forbids it; the logs of both passes as one."""
        nonfinite = _nonfinite(logs)
        if nonfinite:
            iteration = MessageHub.get_current_instance().get_info('iter', 0) + 1
            sentence = f'not finite at iteration {iteration}: {", ".join(nonfinite)}'
            if self.nonfinite_loss == 'stop':
                raise NonFiniteLossError(
                    f"{sentence}; lower the learning rates, clip the gradients (clip_grad), or set "
                    "model.nonfinite_loss='skip' to go on without such iterations")
            if not all(buffer.isfinite().all() for buffer in self.buffers()):
                raise NonFiniteLossError(
                    f'{sentence}; the step cannot be skipped, as the statistics of batch '
                    'normalisation have taken it up: lower the learning rates and --resume')
            print_log(f'{sentence}; the step is skipped', 'current', logging.WARNING)
        optim_wrapper.update(skip=bool(nonfinite))
        total = sum(log.pop('loss') for log in logs.values())
        return {'loss': total, **logs['source'], **logs.get('target', {})}

    def forward(self,
                inputs: Tensor,
                data_samples: Optional[SampleList] = None,
                mode: str = 'tensor',
                target_softmax: Optional[Tensor] = None):
        """As ``EncoderDecoder.forward``, and the two passes of an iteration.

        Args:
            inputs (Tensor): Normalised images (N, 3, H, W).
            data_samples (list[SegDataSample], optional): Their labels and meta information.
            mode (str): ``tensor``, ``predict``, ``loss`` (the source's pass) or ``target_loss``.
            target_softmax (Tensor, optional): With ``loss``, what ``target_loss`` gave.
        """
        if mode == 'target_loss':
            return self.target_loss(inputs)
        if mode == 'loss':
            return self.loss(inputs, data_samples, target_softmax)
        if self.test_cfg.get('statistics') == 'source':
            if self.source_statistics is None:
                raise InputError("model.test_cfg.statistics='source' needs statistics of the "
                                 "source: set model.batch_statistics='per_domain' for training")
            with self.source_statistics.in_use(self._shared_parts):
                return super().forward(inputs, data_samples, mode)
        return super().forward(inputs, data_samples, mode)

    def loss(self,
             inputs: Tensor,
             data_samples: SampleList,
             target_softmax: Optional[Tensor] = None) -> Dict[str, Tensor]:
        """Losses of the source's pass.

        Args:
            inputs (Tensor): Normalised source images (N, 3, H, W).
            data_samples (list[SegDataSample]): Their labels.
            target_softmax (Tensor, optional): The target's softmax (M, C, h, w), without a graph:
                the discriminator's loss needs both domains, and only it.

        Returns:
            dict[str, Tensor]: Scalars; those with ``loss`` in their names are to be minimised.
        """
        features = self.extract_feat(inputs)
        x = self._branch(features, 'seg')
        if target_softmax is None:
            losses = self._decode_head_forward_train(x, data_samples)
        else:
            outputs, softmax = self._decode(x, inputs)
            losses = add_prefix(self._supervised_loss(outputs, data_samples), 'decode')
            if self.loss_adv.pulls_source:
                losses['source.loss_adv'] = self.loss_adv.source_loss(
                    self._frozen_discriminator(softmax, 'source'))
            d_source = self.discriminator(softmax.detach())
            d_target = self.discriminator(target_softmax)
            losses['discriminator.loss'] = self.loss_adv.discriminator_loss(d_source, d_target)
            for domain, right in zip(('source', 'target'),
                                     self.loss_adv.accuracy(d_source, d_target)):
                losses[f'discriminator.acc_{domain}'] = right
        if self.with_auxiliary_head:
            losses.update(self._auxiliary_head_forward_train(x, data_samples))
        if self.reconstructor is not None:
            losses['source.loss_rec'] = self._reconstruction_loss(features, inputs)
        return losses

    def target_loss(self, inputs: Tensor) -> Tuple[Dict[str, Tensor], Optional[Tensor]]:
        """Losses of the target's pass.

        Args:
            inputs (Tensor): Normalised target images (N, 3, H, W).

        Returns:
            tuple: The losses, none if nothing adapts, and, if there is a discriminator, what it
            saw, a softmax (N, C, h, w) without a graph, for :meth:`loss`.
        """
        losses, softmax = {}, None
        with nullcontext() if self.adapts else torch.no_grad():
            features = self.extract_feat(inputs)
        if self.reconstructor is not None:
            losses['target.loss_rec'] = self._reconstruction_loss(features, inputs)
        if self.discriminator is not None:
            _, softmax = self._decode(self._branch(features, 'seg'), inputs)
            losses['target.loss_adv'] = self.loss_adv.target_loss(
                self._frozen_discriminator(softmax, 'target'))
            softmax = softmax.detach()
        elif live_norms(self.decode_head):
            with torch.no_grad():
                self.decode_head.forward(features)
        return losses, softmax

    @torch.compiler.disable  # hooks that leave something behind
    def _branch(self, features: List[Tensor], branch: str) -> List[Tensor]:
        """E's features for one branch, whose gradient reaches E as its share of the mean.

        "The parameters of the encoding network E is updated by averaging the gradients from each
        branch" (end of section 3). The branches are segmentation (``seg``), with the adversarial
        gradient that comes through it, and reconstruction (``rec``). The norm of what reaches E is
        noted for the log.
        """
        if not self.adapts:
            return features
        branches = 1 if self.reconstructor is None else 2
        norms = self._grad_norms.setdefault(branch, [])

        def average(gradient: Tensor) -> Tensor:
            if branches > 1:
                gradient = gradient / branches
            # Not in half precision, where its square overflows.
            dtype = torch.promote_types(gradient.dtype, torch.float32)
            norms.append(torch.linalg.vector_norm(gradient, dtype=dtype))
            return gradient

        views = []
        for feature in features:
            view = feature.view_as(feature)
            if view.requires_grad:
                view.register_hook(average)
            views.append(view)
        return views

    def _decode(self, x: List[Tensor], inputs: Tensor) -> Tuple[object, Tensor]:
        """What the decode head gives, and the softmax (N, C, h, w) that the discriminator sees."""
        outputs = self.decode_head.forward(x)
        logits, *others = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
        if logits.dim() != 4 or any(other.dim() == 4 for other in others):
            raise InputError(
                f'decode_head {type(self.decode_head).__name__} gives several maps in training, so '
                'which of them the discriminator should judge is open: set discriminator=None or '
                'choose a head with one map of logits')
        if self.discriminator_input == 'image':
            logits = resize(
                logits, inputs.shape[-2:], mode='bilinear', align_corners=self.align_corners)
        return outputs, logits.softmax(dim=1)

    @torch.compiler.disable  # counts labels on the host
    def _supervised_loss(self, outputs: object, data_samples: SampleList) -> Dict[str, Tensor]:
        return self.decode_head.loss_by_feat(outputs, data_samples)

    def _frozen_discriminator(self, softmax: Tensor, domain: str) -> Tensor:
        """D's logits, with a gradient for its input but none for its parameters."""
        frozen = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        # D's own loss shows it the source first; a game that pulls both domains does so, too.
        pair = [self.discriminator] if self.loss_adv.pulls_source else []
        with target_last(domain, *pair):
            return functional_call(self.discriminator, frozen, (softmax,))

    def _reconstruction_loss(self, features: List[Tensor], inputs: Tensor) -> Tensor:
        """Equation 1's term for one domain: G(E(I)) against I, in [-1, 1]."""
        x = self._branch(features, 'rec')
        height, width = inputs.shape[-2:]
        # The features may reach past the last row and column: see ReconstructionDecoder.
        reconstruction = self.reconstructor(x)[..., :height, :width]
        if reconstruction.shape != inputs.shape:
            raise InputError(
                f'the reconstruction has shape {tuple(reconstruction.shape)} where the images have '
                f'{tuple(inputs.shape)}: set reconstructor.stride to the stride of the encoder')
        preprocessor = self.data_preprocessor
        image = inputs
        if preprocessor._enable_normalize:
            image = image * preprocessor.std + preprocessor.mean
        return self.loss_rec(reconstruction, image / 127.5 - 1)


def _nonfinite(logs: Dict[str, Dict[str, Tensor]]) -> List[str]:
    """The losses that are NaN or infinite on any rank: all ranks must agree on what to do."""
    losses = {f'{name} in the pass on the {domain}': value for domain, log in logs.items()
              for name, value in log.items() if 'loss' in name and name != 'loss'}
    # One tensor: one exchange between ranks, one wait for the device.
    bad = 1 - torch.stack([value.isfinite() for value in losses.values()]).float()
    all_reduce(bad, 'max')
    return [name for name, count in zip(losses, bad.tolist()) if count]
