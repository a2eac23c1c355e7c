from contextlib import nullcontext
from typing import Any, ContextManager, Dict, Iterator, List, Optional, Sequence

import torch
from mmengine.optim import OptimWrapper
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.utils import SampleList, add_prefix
from torch import Tensor, nn

from structseg_mmseg.errors import InputError
from structseg_mmseg.models.adaptation import Batch, Branches, Pass, Step, View
from structseg_mmseg.models.adaptation.batch_statistics import (MODES, SourceStatistics,
                                                                live_norms, running_statistics)
from structseg_mmseg.models.adaptation.finite import all_finite
from structseg_mmseg.models.terms import PseudoLabels, Terms


@MODELS.register_module()
class AdaptationSegmentor(EncoderDecoder):
    r"""An ``EncoderDecoder`` whose training adapts it to a second, unlabelled domain.

    It learns segmentation on the source and composes :class:`Term` s, which add losses to the
    passes on source and target, or passes of their own. With no terms it trains exactly like
    ``EncoderDecoder``. Inference is always ``EncoderDecoder``'s, and so is the state dict but for
    the prefixes of ``training_only``. With ``test_cfg.model='teacher'`` it is that of a term's
    teacher instead of the student's; the config in a checkpoint says which its scores are of.

    An iteration is a sequence of passes, each backpropagated at once, so one pass's graph is in
    memory at a time; then all optimizers step. As no parameter changes between passes, this equals
    sequential procedures such as that of reference [14] exactly. Methods that update some parts
    before others list their ``steps``.

    Beside the losses it logs the norms of the gradients that reach the encoder's features, by pass
    and branch: ``source.grad_norm_seg``, ``target.grad_norm_seg``, ``source.grad_norm_rec``, ...

    Args:
        terms (dict, optional): Configs of the terms by their names; None drops an inherited one.
        steps (Sequence[dict], optional): The order of updates, each the arguments of a
            :class:`Step`; default: one step of all parts after all passes.
        batch_statistics (str): Which images the running statistics of batch normalisation come
            from: ``both`` domains in the order of the step's passes, the ``target`` alone, or one
            set ``per_domain``; then inference uses the target's, or the source's with
            ``test_cfg.statistics='source'``.
        nonfinite_loss (str): What to do when a loss is NaN or infinite on any rank: ``stop`` the
            run before its parameters are updated, or ``skip`` the step on all ranks.
        channels_last (bool): Whether networks run in the channels-last memory format, which most
            convolutions are faster in; results differ by rounding only.
        **kwargs: As in ``EncoderDecoder``.
    """

    # Sub-modules that only training uses.
    training_only = ('terms', 'source_statistics')

    def __init__(self,
                 *args,
                 terms: Optional[Dict[str, Optional[dict]]] = None,
                 steps: Optional[Sequence[dict]] = None,
                 batch_statistics: str = 'both',
                 nonfinite_loss: str = 'stop',
                 channels_last: bool = False,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        statistics, tested = ((self.test_cfg or {}).get(key) for key in ('statistics', 'model'))
        for key, value, choices in (('nonfinite_loss', nonfinite_loss, ('stop', 'skip')),
                                    ('batch_statistics', batch_statistics, MODES),
                                    ('test_cfg.statistics', statistics, (None, 'source')),
                                    ('test_cfg.model', tested, (None, 'teacher'))):
            if value not in choices:
                raise InputError(f'model.{key} is {value!r}: choose '
                                 f'{" or ".join(repr(choice) for choice in choices)}')
        self.nonfinite_loss = nonfinite_loss
        self.terms = Terms(terms or {}, self)
        if tested and (self.teacher is None or statistics):
            raise InputError("model.test_cfg.model='teacher' needs a term with a teacher, such as "
                             'SelfTraining, and no test_cfg.statistics')
        self.steps = [Step(**{'name': str(index), **step})
                      for index, step in enumerate(steps or [{}])]
        for index, step in enumerate(self.steps):
            step.check(f'model.steps.{index}', [*self.terms], ['source', *self.terms.passes])
        self.source_statistics = None
        if batch_statistics != 'both':
            self.source_statistics = SourceStatistics(
                self._modules_of('target'), persistent=batch_statistics == 'per_domain')
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
    def teacher(self) -> Any:
        """The first term's that has one, an ``EncoderDecoder``, or None."""
        labelling = (term for term in self.terms.values() if isinstance(term, PseudoLabels))
        return next((term.teacher for term in labelling), None)

    # torch.compile of this method is to reach the passes, not what ties them together.
    @torch.compiler.disable(recursive=False)
    def train_step(self,
                   data: Dict[str, dict],
                   optim_wrapper: OptimWrapper,
                   model: Optional[nn.Module] = None) -> Dict[str, Tensor]:
        """One iteration: terms prepare batches; then passes and an update, for each step.

        Args:
            data (dict): Batches as the loaders collate them: ``source``, with labels, and, if there
                are terms, ``target``; ``pictures`` (dict) gets, by pass, what is to be drawn.
            optim_wrapper (OptimWrapper): An :class:`AdaptationOptimWrapper`.
            model (nn.Module, optional): The distributed wrapper to run the passes through.

        Returns:
            dict[str, Tensor]: The losses, weighted, their sum ``loss``, and what is logged beside.

        Raises:
            NonFiniteLossError: If a loss is NaN or infinite and the step may not or cannot be
                skipped.
        """
        model = model or self
        alone = getattr(model, 'no_sync', nullcontext)
        exchange = getattr(model, 'exchange', nullcontext)
        batches = self.prepare(data, optim_wrapper)
        logs: Dict[str, Tensor] = {}
        total: Any = 0
        updated = False
        for step in self._due_steps():
            passes = self.passes(step, batches, data.get('pictures'))
            if not passes:  # terms have added none of its batches in this iteration
                continue
            log: Dict[str, Dict[str, Tensor]] = {}
            for one in passes:
                # Gradients are exchanged between ranks once, by the last pass.
                with exchange() if one is passes[-1] else alone():
                    with optim_wrapper.optim_context(model), self._statistics(one, step, passes):
                        model(one, mode='pass')
                    if one.losses:
                        log[one.name] = one.backward(*self.parse_losses(one.losses), optim_wrapper)
            if not log:
                raise InputError(f'step {step.name} of model.steps has no loss: remove it, or add '
                                 'a term with a loss in its passes')
            updated |= self._update(step, log, optim_wrapper)
            total = total + sum(of_pass.pop('loss') for of_pass in log.values())
            for of_pass in reversed(list(log.values())):  # the source's first
                logs.update(of_pass if len(self.steps) == 1 else add_prefix(of_pass, step.name))
        if updated:
            self.terms.after_iter()
        return {'loss': total, **logs}

    @torch.compiler.disable
    @torch.no_grad()
    def prepare(self, data: Dict[str, dict], optim_wrapper: OptimWrapper) -> Dict[str, Batch]:
        """The batches of an iteration: source, target if there are terms, and what these add."""
        batches: Dict[str, Batch] = {
            domain: Batch(**self.data_preprocessor(data[domain], True), statistics=domain)
            for domain in ('target', 'source')
            if domain in data and (self.adapts or domain == 'source')}
        with optim_wrapper.optim_context(self):
            self.terms.prepare(batches)
        return batches

    def _due_steps(self) -> Iterator[Step]:
        for step in self.steps:
            if step.when is None or self.terms[step.when].ready:
                yield from (step for _ in range(step.times))

    def passes(self, step: Step, batches: Dict[str, Batch],
               pictures: Optional[Dict[str, dict]] = None) -> List[Pass]:
        """The passes of a step, as they run: the source's last."""
        notes: Dict[str, dict] = {name: {} for name in self.terms}
        names = [name for name in batches if name == 'source' or name in self.terms.passes]
        return [
            Pass(name, batches[name], Branches(self.terms.branches), notes,
                 None if pictures is None else pictures.setdefault(name, {}))
            for name in sorted(names, key=lambda name: name == 'source')
            if name in step.in_order(names)]

    def _modules_of(self, name: str) -> List[nn.Module]:
        """The modules that a pass runs through."""
        modules = [self.backbone, getattr(self, 'neck', None), self.decode_head]
        if name == 'source' or 'auxiliary_head' in self.terms.heads(name):
            modules.append(getattr(self, 'auxiliary_head', None))
        return [module for module in (*modules, *self.terms.shared(name)) if module is not None]

    def _statistics(self, one: Pass, step: Step, passes: List[Pass]) -> ContextManager:
        return running_statistics(
            one, passes, step.in_order(other.name for other in passes), self._modules_of,
            self.source_statistics if self.adapts else None)

    @torch.compiler.disable
    def _update(self, step: Step, log: Dict[str, Dict[str, Tensor]],
                optim_wrapper: OptimWrapper) -> bool:
        """Step the optimizers, unless a loss forbids it; whether parameters were updated."""
        finite = all_finite(log, self.nonfinite_loss == 'skip', self.buffers())
        return optim_wrapper.update(skip=not finite, parts=step.parts)

    def forward(self,
                inputs: Any,
                data_samples: Optional[SampleList] = None,
                mode: str = 'tensor') -> Any:
        """As ``EncoderDecoder.forward``, and the passes of an iteration.

        Args:
            inputs (Tensor | Pass): Normalised images (N, 3, H, W), or, if ``mode`` is ``pass``, the
                pass to run, which gets the losses.
            data_samples (list[SegDataSample], optional): Their labels and meta information.
            mode (str): ``tensor``, ``predict``, ``loss`` or ``pass``.
        """
        if mode == 'pass':
            return self.run_pass(inputs)
        if (self.test_cfg or {}).get('model') == 'teacher':
            return self.teacher(inputs, data_samples, mode)
        if (self.test_cfg or {}).get('statistics') != 'source':
            return super().forward(inputs, data_samples, mode)
        if self.source_statistics is None:
            raise InputError("model.test_cfg.statistics='source' needs statistics of the source: "
                             "set model.batch_statistics='per_domain' for training")
        with self.source_statistics.in_use():
            return super().forward(inputs, data_samples, mode)

    def run_pass(self, one: Pass) -> None:
        """Run a pass forward and leave its losses in it."""
        terms = self.terms.wanting(one.name)
        supervised = one.name == 'source'
        trains = supervised or any(term.trains for term in terms.values())
        with nullcontext() if trains else torch.no_grad():
            view = View(self, one)
            if supervised:
                one.losses.update(self._supervised_losses(view))
            for name, term in terms.items():
                view.notes = one.notes[name]
                one.losses.update(add_prefix(term.loss(view), name))
        if (not supervised and one.batch.statistics is not None
                and not view.has_run('decode_head') and live_norms(self.decode_head)):
            with torch.no_grad():  # its running statistics are updated, too
                view.outputs()
        if view.drawn:
            view.draw()

    def _supervised_losses(self, view: View) -> Dict[str, Tensor]:
        """mmseg's losses; a head whose outputs terms use runs once for both."""
        used, samples = self.terms.heads(view.name), view.batch.data_samples
        losses = {}
        if 'decode_head' in used or view.drawn:
            losses.update(add_prefix(view.supervised_loss('decode_head'), 'decode'))
        else:
            losses.update(self._decode_head_forward_train(view.features(), samples))
        if 'auxiliary_head' in used:
            losses.update(add_prefix(view.supervised_loss('auxiliary_head'), 'aux'))
        elif self.with_auxiliary_head:
            losses.update(self._auxiliary_head_forward_train(view.features(), samples))
        return losses
