import logging
from contextlib import nullcontext
from typing import Dict, List, Optional, Tuple

import torch
import torch.nn as nn
from mmengine.dist import all_reduce
from mmengine.logging import MessageHub, print_log
from mmengine.optim import OptimWrapper
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.utils import SampleList, add_prefix
from torch import Tensor
from torch.func import functional_call

from structseg_mmseg.errors import InputError, NonFiniteLossError


@MODELS.register_module()
class AdvReconSegmentor(EncoderDecoder):
    r"""An ``EncoderDecoder`` whose training adapts it to a second, unlabelled domain.

    It plays Equation 3: segmentation on the source, reconstruction on both domains (Equation 1),
    and a game with a discriminator on the softmax of both (Equation 2). E of the paper is backbone
    and neck, S the decode head, G the ``reconstructor``, D the ``discriminator``. Either of the
    last two may be None, which gives the paper's ablations; with both None, training is
    ``EncoderDecoder``'s. Inference is ``EncoderDecoder``'s always, and the state dict is its own
    but for the prefixes ``reconstructor.`` and ``discriminator.``.

    One iteration backpropagates the target first, then the source, then steps every optimizer
    once. This equals the sequential procedure of reference [14] exactly, as no parameter changes
    between the passes, and holds one domain's graph at a time: what the discriminator's loss needs
    of the target, its softmax at the stride of the logits, is kept without a graph.

    A config's ``compile=True`` compiles the two passes; what is around them stays as it is.

    Args:
        reconstructor (dict, optional): Config of G, e.g. a ``ReconstructionDecoder``.
        discriminator (dict, optional): Config of D, e.g. an ``ASPPDiscriminator``. It asks for a
            decode head whose ``forward`` gives logits, alone or before other outputs of less than
            four dimensions.
        loss_rec (dict): Config of Equation 1's reconstruction loss.
        loss_adv (dict): Config of Equation 2.
        nonfinite_loss (str): What to do when a loss is NaN or infinite on any rank: ``stop`` the
            run before its parameters take it up, or ``skip`` the step on all ranks.
        channels_last (bool): Whether all networks run on images whose channels lie together in
            memory, which most convolutions are quicker at; nothing but rounding depends on it.
        **kwargs: As in ``EncoderDecoder``.
    """

    # Sub-modules that only training has.
    training_only = ('reconstructor', 'discriminator')

    def __init__(self,
                 *args,
                 reconstructor: Optional[dict] = None,
                 discriminator: Optional[dict] = None,
                 loss_rec: dict = dict(type='ReconstructionLoss'),
                 loss_adv: dict = dict(type='AdversarialLoss'),
                 nonfinite_loss: str = 'stop',
                 channels_last: bool = False,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if nonfinite_loss not in ('stop', 'skip'):
            raise InputError(f"model.nonfinite_loss is {nonfinite_loss!r}: choose 'stop' or 'skip'")
        self.nonfinite_loss = nonfinite_loss
        self.reconstructor = self.discriminator = None
        if reconstructor is not None:
            self.reconstructor = MODELS.build(reconstructor)
            self.loss_rec = MODELS.build(loss_rec)
        if discriminator is not None:
            self.discriminator = MODELS.build(
                discriminator, default_args=dict(num_classes=self.out_channels))
            self.loss_adv = MODELS.build(loss_adv)
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

    # torch.compile of this method is to reach the passes, not what ties them together.
    @torch.compiler.disable(recursive=False)
    def train_step(self,
                   data: Dict[str, dict],
                   optim_wrapper: OptimWrapper,
                   model: Optional[nn.Module] = None) -> Dict[str, Tensor]:
        """One iteration: target pass, source pass, step.

        Args:
            data (dict): Batches as the loaders collate them: ``source``, with labels, and, if the
                segmentor adapts, ``target``.
            optim_wrapper (OptimWrapper): An :class:`AdaptationOptimWrapper`.
            model (nn.Module, optional): The distributed wrapper to run the passes through.

        Returns:
            dict[str, Tensor]: The losses, weighted, and their sum ``loss``.

        Raises:
            NonFiniteLossError: If a loss is NaN or infinite and the step may not or cannot be
                skipped.
        """
        model = model or self
        logs, target_softmax = {}, None
        if self.adapts:
            # The gradients of both passes are exchanged once, by the source's backward.
            with getattr(model, 'no_sync', nullcontext)():
                with optim_wrapper.optim_context(model):
                    batch = self._preprocess(data['target'])
                    losses, target_softmax = model(batch['inputs'], mode='target_loss')
                logs['target'] = self._backward(losses, optim_wrapper)
        with optim_wrapper.optim_context(model):
            batch = self._preprocess(data['source'])
            losses = model(**batch, mode='loss', target_softmax=target_softmax)
        logs['source'] = self._backward(losses, optim_wrapper)
        return self._finish(logs, optim_wrapper)

    @torch.compiler.disable
    def _preprocess(self, data: dict) -> dict:
        return self.data_preprocessor(data, True)

    @torch.compiler.disable
    def _backward(self, losses: Dict[str, Tensor],
                  optim_wrapper: OptimWrapper) -> Dict[str, Tensor]:
        loss, logs = self.parse_losses(losses)
        optim_wrapper.backward(loss)
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
        x = self._encode(inputs)
        if target_softmax is None:
            losses = self._decode_head_forward_train(x, data_samples)
        else:
            outputs, softmax = self._decode(x)
            losses = add_prefix(self._supervised_loss(outputs, data_samples), 'decode')
            if self.loss_adv.pulls_source:
                losses['source.loss_adv'] = self.loss_adv.source_loss(
                    self._frozen_discriminator(softmax))
            losses['discriminator.loss'] = self.loss_adv.discriminator_loss(
                self.discriminator(softmax.detach()), self.discriminator(target_softmax))
        if self.with_auxiliary_head:
            losses.update(self._auxiliary_head_forward_train(x, data_samples))
        if self.reconstructor is not None:
            losses['source.loss_rec'] = self._reconstruction_loss(x, inputs)
        return losses

    def target_loss(self, inputs: Tensor) -> Tuple[Dict[str, Tensor], Optional[Tensor]]:
        """Losses of the target's pass.

        Args:
            inputs (Tensor): Normalised target images (N, 3, H, W).

        Returns:
            tuple: The losses, and, if there is a discriminator, the softmax (N, C, h, w) at the
            stride of the logits, without a graph, for :meth:`loss`.
        """
        x = self._encode(inputs)
        losses, softmax = {}, None
        if self.reconstructor is not None:
            losses['target.loss_rec'] = self._reconstruction_loss(x, inputs)
        if self.discriminator is not None:
            _, softmax = self._decode(x)
            losses['target.loss_adv'] = self.loss_adv.target_loss(
                self._frozen_discriminator(softmax))
            softmax = softmax.detach()
        return losses, softmax

    def _encode(self, inputs: Tensor) -> List[Tensor]:
        """Features whose gradient reaches E as the mean over the branches (end of section 3).

        The branches are the segmentation branch, with the adversarial gradient that comes through
        it, and the reconstruction branch.
        """
        x = self.extract_feat(inputs)
        if self.reconstructor is not None:
            for feature in x:
                if feature.requires_grad:
                    feature.register_hook(_half)
        return x

    def _decode(self, x: List[Tensor]) -> Tuple[object, Tensor]:
        """What the decode head gives, and the softmax of its logits, (N, C, h, w)."""
        outputs = self.decode_head.forward(x)
        logits, *others = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
        if logits.dim() != 4 or any(other.dim() == 4 for other in others):
            raise InputError(
                f'decode_head {type(self.decode_head).__name__} gives several maps in training, so '
                'which of them the discriminator should judge is open: set discriminator=None or '
                'choose a head with one map of logits')
        return outputs, logits.softmax(dim=1)

    @torch.compiler.disable  # counts labels on the host
    def _supervised_loss(self, outputs: object, data_samples: SampleList) -> Dict[str, Tensor]:
        return self.decode_head.loss_by_feat(outputs, data_samples)

    def _frozen_discriminator(self, softmax: Tensor) -> Tensor:
        """D's logits, with a gradient for its input but none for its parameters."""
        frozen = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        return functional_call(self.discriminator, frozen, (softmax,))

    def _reconstruction_loss(self, x: List[Tensor], inputs: Tensor) -> Tensor:
        """Equation 1's term for one domain: G(E(I)) against I, in [-1, 1]."""
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


def _half(gradient: Tensor) -> Tensor:
    return gradient / 2


def _nonfinite(logs: Dict[str, Dict[str, Tensor]]) -> List[str]:
    """The losses that are NaN or infinite on any rank: all ranks must agree on what to do."""
    losses = {f'{name} in the pass on the {domain}': value for domain, log in logs.items()
              for name, value in log.items() if 'loss' in name and name != 'loss'}
    # One tensor: one exchange between ranks, one wait for the device.
    bad = 1 - torch.stack([value.isfinite() for value in losses.values()]).float()
    all_reduce(bad, 'max')
    return [name for name, count in zip(losses, bad.tolist()) if count]
