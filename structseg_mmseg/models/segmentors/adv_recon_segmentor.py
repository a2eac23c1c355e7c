import logging
from contextlib import nullcontext
from typing import Any, ContextManager, Dict, List, Optional, Sequence, Tuple

import torch
import torch.nn as nn
from mmengine.dist import all_reduce, all_reduce_params
from mmengine.logging import MessageHub, print_log
from mmengine.model import ModuleDict
from mmengine.optim import OptimWrapper
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.utils import SampleList, add_prefix
from torch import Tensor

from structseg_mmseg.errors import InputError, NonFiniteLossError
from structseg_mmseg.models.batch_statistics import (MODES, SourceStatistics, live_norms,
                                                     target_last)
from structseg_mmseg.models.segmentors.step import Step
from structseg_mmseg.models.terms import Term, View


@MODELS.register_module()
class AdvReconSegmentor(EncoderDecoder):
    r"""An ``EncoderDecoder`` whose training adapts it to a second, unlabelled domain.

    It learns segmentation on the source, and composes :class:`Term` s that look at the passes of
    both domains. With the paper's two, a ``Reconstruction`` (Equation 1) and an ``Adversary``
    (Equation 2), it plays Equation 3; E of the paper is backbone and neck, S the decode head, G the
    reconstruction's decoder, D the adversary's discriminator. Without a term, training is
    ``EncoderDecoder``'s, and target images, if there are any, pass for the statistics of batch
    normalisation alone. Inference is ``EncoderDecoder``'s always, and the state dict is its own but
    for the prefixes of ``training_only``.

    One iteration backpropagates the target first, then the source, then steps every optimizer
    once. This equals the sequential procedure of reference [14] exactly, as no parameter changes
    between the passes, and holds one domain's graph at a time: what a term needs of the target in
    the source's pass, such as its softmax, is kept without a graph. Methods that update some parts
    before others name their ``steps``.

    Beside the losses it logs how strongly each branch pulls at E: ``source.grad_norm_seg``
    (segmentation), ``target.grad_norm_seg`` (terms that share its branch, as the game does) and,
    for instance, ``grad_norm_rec`` of both: norms of the gradients that reach E's features.

    A config's ``compile=True`` compiles the passes; what is around them stays as it is.

    Args:
        terms (dict, optional): Configs of the terms by their names; None drops one that the config
            inherits.
        steps (Sequence[dict], optional): The order of updates, each the arguments of a
            :class:`Step`, where it is another than one of all parts after both passes.
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
    training_only = ('terms', 'source_statistics')
    # Arguments of version 0.1, and what they are now.
    moved = dict(
        reconstructor='terms.reconstruction.decoder', loss_rec='terms.reconstruction',
        discriminator='terms.adversary.discriminator', loss_adv='terms.adversary',
        discriminator_input='terms.adversary.size')

    def __init__(self,
                 *args,
                 terms: Optional[Dict[str, Optional[dict]]] = None,
                 steps: Optional[Sequence[dict]] = None,
                 batch_statistics: str = 'both',
                 nonfinite_loss: str = 'stop',
                 channels_last: bool = False,
                 **kwargs) -> None:
        for key in self.moved.keys() & kwargs.keys():
            raise InputError(f'model.{key} has moved: set model.{self.moved[key]} (CHANGELOG.md)')
        super().__init__(*args, **kwargs)
        statistics = (self.test_cfg or {}).get('statistics')
        for key, value, choices in (('nonfinite_loss', nonfinite_loss, ('stop', 'skip')),
                                    ('batch_statistics', batch_statistics, MODES),
                                    ('test_cfg.statistics', statistics, (None, 'source'))):
            if value not in choices:
                raise InputError(f'model.{key} is {value!r}: choose '
                                 f'{" or ".join(repr(choice) for choice in choices)}')
        self.nonfinite_loss = nonfinite_loss
        self.terms = ModuleDict({
            name: MODELS.build(term, default_args=dict(num_classes=self.out_channels))
            for name, term in (terms or {}).items() if term is not None})
        for name, term in self.terms.items():
            for head in term.heads:
                if getattr(self, head, None) is None:
                    raise InputError(f'model.terms.{name} looks at {head}, which the model has '
                                     f'not: add model.{head}')
        self.steps = [Step(**{'name': str(index), **step})
                      for index, step in enumerate(steps or [{}])]
        for index, step in enumerate(self.steps):
            if not step.passes:
                raise InputError(f'model.steps.{index}.passes is empty: name target, source or '
                                 'both')
            if step.when is not None and step.when not in self.terms:
                raise InputError(f'model.steps.{index}.when is {step.when!r}: name one of '
                                 f'model.terms ({", ".join(self.terms) or "it has none"})')
        self.source_statistics = None
        if batch_statistics != 'both':
            self.source_statistics = SourceStatistics(
                self._shared_parts, persistent=batch_statistics == 'per_domain')
        self._grad_norms: Dict[str, List[Tensor]] = {}
        # Of each domain, if a hook makes it a dict before an iteration: what is to be drawn.
        self.pictures: Optional[Dict[str, Dict[str, Tensor]]] = None
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
        return len(self.terms) > 0

    @property
    def _heads_looked_at(self) -> List[str]:
        """The decode heads whose logits a term looks at."""
        return [head for term in self.terms.values() for head in term.heads]

    @property
    def _shared_parts(self) -> List[nn.Module]:
        """What images of both domains pass with their own losses or none."""
        parts = [self.backbone, getattr(self, 'neck', None), self.decode_head]
        if 'auxiliary_head' in self._heads_looked_at:
            parts.append(self.auxiliary_head)
        for term in self.terms.values():
            parts += term.shared
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
        """One iteration: target pass, source pass, step; or the ``steps`` of the config.

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
        logs: Dict[str, Tensor] = {}
        total: Any = 0
        for step in self.steps:
            if step.when is not None and not self.terms[step.when].ready:
                continue
            for _ in range(step.times):
                log = self._step(step, data, optim_wrapper, model)
            total += log['loss']
            logs.update(log if len(self.steps) == 1 else add_prefix(log, step.name))
        return {**logs, 'loss': total}

    def _step(self, step: Step, data: Dict[str, dict], optim_wrapper: OptimWrapper,
              model: nn.Module) -> Dict[str, Tensor]:
        """Passes and the update that follows them."""
        logs, kept, batches = {}, None, {}
        domains = set(step.passes) & data.keys()
        mixing = [name for name, term in self.terms.items() if type(term).mix is not Term.mix]
        # The gradients of all passes are exchanged once: by the last one's backward, the source's,
        # which reaches all parameters, or else by hand.
        by_hand = len(self.steps) > 1 or 'source' not in domains
        alone = getattr(model, 'no_sync', nullcontext)

        def take(domain: str, sync: bool = False, **kwargs) -> Any:
            with nullcontext() if sync else alone():
                with optim_wrapper.optim_context(model), self._statistics(domain, data, step):
                    output = model(**kwargs, step=step.name)
                losses, kept = output if isinstance(output, tuple) else (output, None)
                if losses:
                    logs[domain] = self._backward(domain, losses, optim_wrapper)
            return kept

        if 'target' in domains:
            batches['target'] = self._preprocess(data['target'])
            kept = take('target', mode='target_loss', inputs=batches['target']['inputs'])
        if not mixing:
            batches.clear()  # from memory
        if 'source' in domains:
            batches['source'] = self._preprocess(data['source'])
        for name in mixing:
            mixed = self.terms[name].mix(batches)
            if mixed is not None:
                take(name, mode='mixed_loss', term=name, **mixed)
        if 'source' in domains:
            take('source', sync=not by_hand, mode='loss', kept=kept, **batches['source'])
        if by_hand:
            all_reduce_params([p.grad for p in self.parameters() if p.grad is not None], op='mean')
        return self._finish(logs, optim_wrapper, step.parts)

    def _statistics(self, domain: str, data: Dict[str, dict], step: Step) -> ContextManager:
        """A context for a pass, where there are two domains: what it leaves in the statistics."""
        if 'target' not in data or domain not in data:
            return nullcontext()
        if self.source_statistics is not None:
            source = self.source_statistics.in_use(self._shared_parts)
            return source if domain == 'source' else nullcontext()
        if len(step.passes) == 1:
            return nullcontext()
        return target_last(domain, *self._shared_parts)

    @torch.compiler.disable
    def _preprocess(self, data: dict) -> dict:
        return self.data_preprocessor(data, True)

    @torch.compiler.disable
    def _backward(self, domain: str, losses: Dict[str, Tensor],
                  optim_wrapper: OptimWrapper) -> Dict[str, Tensor]:
        loss, logs = self.parse_losses(losses)
        scale: List[Tensor] = []  # by which accumulation and mixed precision multiply the loss
        loss.register_hook(scale.append)
        optim_wrapper.backward(loss)
        for branch, norms in self._grad_norms.items():
            if norms:  # none where E is frozen
                logs[f'{domain}.grad_norm_{branch}'] = torch.stack(norms).norm() / scale[0]
        self._grad_norms = {}
        return logs

    @torch.compiler.disable
    def _finish(self, logs: Dict[str, Dict[str, Tensor]], optim_wrapper: OptimWrapper,
                parts: Optional[Sequence[str]]) -> Dict[str, Tensor]:
        """Update the parts, unless a loss forbids it; the logs of all passes as one."""
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
        if optim_wrapper.update(skip=bool(nonfinite), parts=parts):
            for term in self.terms.values():
                term.after_step(self)
        total: Any = sum(log.pop('loss') for log in logs.values())
        return {'loss': total, **{name: value for log in reversed(list(logs.values()))
                                  for name, value in log.items()}}

    def forward(self,
                inputs: Tensor,
                data_samples: Optional[SampleList] = None,
                mode: str = 'tensor',
                **kwargs) -> Any:
        """As ``EncoderDecoder.forward``, and the passes of an iteration.

        Args:
            inputs (Tensor): Normalised images (N, 3, H, W).
            data_samples (list[SegDataSample], optional): Their labels and meta information.
            mode (str): ``tensor``, ``predict``, ``loss`` (the source's pass), ``target_loss`` or
                ``mixed_loss``.
            **kwargs: What the method of that name takes.
        """
        if mode == 'target_loss':
            return self.target_loss(inputs, **kwargs)
        if mode == 'mixed_loss':
            return self.mixed_loss(inputs, data_samples, **kwargs)
        if mode == 'loss':
            return self.loss(inputs, data_samples, **kwargs)
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
             kept: Optional[Dict[str, Any]] = None,
             step: str = '') -> Dict[str, Tensor]:
        """Losses of the source's pass.

        Args:
            inputs (Tensor): Normalised source images (N, 3, H, W).
            data_samples (list[SegDataSample]): Their labels.
            kept (dict, optional): What :meth:`target_loss` gave to be kept, if it ran; without it
                no term is asked.
            step (str): The step's name.

        Returns:
            dict[str, Tensor]: Scalars; those with ``loss`` in their names are to be minimised.
        """
        view = View(self, 'source', inputs, data_samples, step, self._pictures_of('source'))
        looked_at = self._heads_looked_at if kept is not None else []
        losses = {}
        if 'decode_head' in looked_at or self._drawn(view):
            losses.update(self._supervised_loss('decode_head', 'decode', view))
        else:
            losses.update(self._decode_head_forward_train(view.features(), data_samples))
        if 'auxiliary_head' in looked_at:
            losses.update(self._supervised_loss('auxiliary_head', 'aux', view))
        elif self.with_auxiliary_head:
            losses.update(self._auxiliary_head_forward_train(view.features(), data_samples))
        for name, value in (kept or {}).items():
            losses.update(add_prefix(self.terms[name].source_loss(view, value), name))
        if self._drawn(view):
            self._draw(view)
        return losses

    def target_loss(self, inputs: Tensor, step: str = '') -> Tuple[Dict[str, Tensor], Dict]:
        """Losses of the target's pass.

        Args:
            inputs (Tensor): Normalised target images (N, 3, H, W).
            step (str): The step's name.

        Returns:
            tuple: The losses, none if nothing adapts, and what each term keeps, without a graph,
            for :meth:`loss`.
        """
        losses, kept = {}, {}
        with nullcontext() if self.adapts else torch.no_grad():
            view = View(self, 'target', inputs, step=step, pictures=self._pictures_of('target'))
        for name, term in self.terms.items():
            loss, kept[name] = term.target_loss(view)
            losses.update(add_prefix(loss, name))
        if 'decode_head' not in self._heads_looked_at and live_norms(self.decode_head):
            with torch.no_grad():
                view.outputs()
        if self._drawn(view):
            self._draw(view)
        return losses, kept

    def mixed_loss(self, inputs: Tensor, data_samples: Optional[SampleList], term: str,
                   step: str = '') -> Dict[str, Tensor]:
        """Losses of a batch that a term has mixed."""
        view = View(self, term, inputs, data_samples, step)
        return add_prefix(self.terms[term].mixed_loss(view), term)

    def _pictures_of(self, domain: str) -> Optional[Dict[str, Tensor]]:
        return None if self.pictures is None else self.pictures.setdefault(domain, {})

    def _drawn(self, view: View) -> bool:
        """Whether a pass is to be drawn, and the head is one of those that give logits."""
        return view.pictures is not None and isinstance(self.decode_head, BaseDecodeHead)

    @torch.compiler.disable
    def _draw(self, view: View) -> None:
        """Keep the first image, its logits (C, H, W) and, if there is one, its truth (H, W)."""
        assert view.pictures is not None  # see _drawn
        # Where no loss needed the target's logits, they are made here, dropout drawing from a copy
        # of the generator: a run that is drawn is the same run.
        devices = [view.inputs.device] if view.inputs.is_cuda else []
        with torch.no_grad(), torch.random.fork_rng(devices):
            outputs = view.outputs()
            logits = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
            view.pictures['logits'] = view.at_image(logits[:1])[0].detach()
        view.show('image', view.image, 0, 255)
        if view.data_samples is not None:
            view.pictures['truth'] = view.data_samples[0].gt_sem_seg.data[0]

    @torch.compiler.disable  # hooks that leave something behind
    def branch(self, features: List[Tensor], branch: str) -> List[Tensor]:
        """E's features for one branch, whose gradient reaches E as its share of the mean.

        "The parameters of the encoding network E is updated by averaging the gradients from each
        branch" (end of section 3). The branches are segmentation (``seg``), with the adversarial
        gradient that comes through it, and what terms name. The norm of what reaches E is noted for
        the log.
        """
        if not self.adapts:
            return features
        branches = len({'seg', *(term.branch for term in self.terms.values())})
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

    @torch.compiler.disable  # counts labels on the host
    def _supervised_loss(self, head: str, prefix: str, view: View) -> Dict[str, Tensor]:
        losses = getattr(self, head).loss_by_feat(view.outputs(head), view.data_samples)
        return add_prefix(losses, prefix)


def _nonfinite(logs: Dict[str, Dict[str, Tensor]]) -> List[str]:
    """The losses that are NaN or infinite on any rank: all ranks must agree on what to do."""
    losses = {f'{name} in the pass on the {domain}': value for domain, log in logs.items()
              for name, value in log.items() if 'loss' in name and name != 'loss'}
    # One tensor: one exchange between ranks, one wait for the device.
    bad = 1 - torch.stack([value.isfinite() for value in losses.values()]).float()
    all_reduce(bad, 'max')
    return [name for name, count in zip(losses, bad.tolist()) if count]
