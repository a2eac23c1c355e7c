from itertools import islice
from typing import Dict, Iterator, Tuple

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank, get_world_size
from mmengine.runner import IterBasedTrainLoop, Runner
from mmseg.registry import DATASETS, LOOPS
from torch import nn
from torch.utils.data import DataLoader

from structseg_mmseg.bounds import Natural
from structseg_mmseg.datasets.seeded import SeededDataset, seed_generators
from structseg_mmseg.errors import InputError
from structseg_mmseg.models.wrappers import unwrapped

# How many values of each logged scalar are kept. mmengine keeps a million, saves them with each
# checkpoint, and copies them all whenever it adds one.
HISTORY = 1000


@LOOPS.register_module()
class AdaptationTrainLoop(IterBasedTrainLoop):
    """``IterBasedTrainLoop`` with a second, independent loader for the target.

    The source comes from ``train_dataloader``, the target from the config's ``target_dataloader``,
    written like it, which is opened only if the model adapts. Each iteration hands the model
    ``dict(source=batch, target=batch)``.

    All that is random is a function of the run's seed and of a place: a domain's order of the seed,
    a sample's transforms, and what terms draw for it, of its place in that order, dropout of
    iteration and rank. So a resumed run needs no state of any generator to go on as if it had
    never stopped: both loaders continue after the last sample that was seen, reading nothing that
    they skip. The number of workers does not matter, nor do ranks: W ranks with batches of b see
    what one sees with batches of W b.

    Args:
        runner (Runner): The runner.
        dataloader (dict): The source's.
        max_unreadable (int): How many samples of a domain, on each rank, may be replaced by others
            as a file of theirs cannot be read; one more stops the run. A resumed run counts anew.
        **kwargs: As in ``IterBasedTrainLoop``: ``max_iters``, ``val_interval``, ...
    """

    def __init__(self, runner: Runner, dataloader: dict, max_unreadable: Natural = 0,
                 **kwargs) -> None:
        super().__init__(runner, _with_seeds(dataloader, max_unreadable), **kwargs)
        self.dataloaders = dict(source=self.dataloader)
        target = runner.cfg.get('target_dataloader')
        if target is not None and getattr(unwrapped(runner.model), 'adapts', True):
            self.dataloaders['target'] = runner.build_dataloader(
                _with_seeds(target, max_unreadable), seed=runner.seed)
        for domain, loader in self.dataloaders.items():
            key = 'train_dataloader' if domain == 'source' else 'target_dataloader'
            if loader.batch_size is None:
                raise InputError(f'{key}.batch_sampler is not supported, as a run could not be '
                                 'resumed exactly: set batch_size and sampler')
            if not isinstance(loader.sampler, InfiniteSampler):
                raise InputError(f'{key}.sampler must be an InfiniteSampler, the only one that two '
                                 'loaders of different lengths can be resumed with')

    @property
    def _seed(self) -> int:
        """The run's seed, the same on all ranks; a resumed run has its checkpoint's."""
        differs = self.runner._randomness_cfg.get('diff_rank_seed', False)
        return self.runner.seed - (get_rank() if differs else 0)

    def run(self) -> nn.Module:
        """Launch training, from where the runner resumed, if it did."""
        self._per_iteration = {domain: loader.batch_size * get_world_size()
                               for domain, loader in self.dataloaders.items()}
        self._seen = self._resume_position()
        self.dataloader_iterator = _DomainBatches(
            self.dataloaders, self._seed, self._seen,
            placeholders=0 if getattr(self, 'fast_forward_on_resume', False) else self._iter)
        model = super().run()
        # Now, not with the loop, as a cycle of objects: torch waits 5 s for each worker of those.
        del self.dataloader_iterator
        return model

    def _resume_position(self) -> Dict[str, int]:
        """How many samples of each domain all ranks together have seen."""
        saved = self.runner.message_hub.get_info('samples')
        if not self._iter or saved is None:
            return {domain: number * self._iter for domain, number in self._per_iteration.items()}
        world_size = get_world_size()
        if (saved['world_size'], saved['per_iteration']) != (world_size, self._per_iteration):
            self.runner.logger.warning(
                f'the checkpoint comes from {saved["world_size"]} rank(s) that together saw '
                f'{saved["per_iteration"]} samples an iteration, this run has {world_size} rank(s) '
                f'and {self._per_iteration} samples: it goes on behind the last sample that was '
                'seen, with the learning rates and the number of iterations of its own config')
        return {domain: saved['seen'].get(domain, number * self._iter)
                for domain, number in self._per_iteration.items()}

    def run_iter(self, data_batch: Dict[str, dict]) -> None:
        """One iteration, as in ``IterBasedTrainLoop``, from a generator of its own."""
        for domain, number in self._per_iteration.items():
            self._seen[domain] += number
        self.runner.message_hub.update_info('samples', dict(  # saved with each checkpoint
            world_size=get_world_size(), per_iteration=self._per_iteration, seen=self._seen))
        seed_generators(self._seed, 0, self._iter, get_rank())
        super().run_iter(data_batch)
        processor = self.runner.log_processor
        if not processor.custom_cfg:  # which may look at all that was logged
            for scalar in self.runner.message_hub.log_scalars.values():
                scalar.max_length = max(HISTORY, processor.window_size)


def training_loaders(runner: Runner) -> Dict[str, DataLoader]:
    """The loaders of a training that is about to start, by domain, whatever its loop."""
    return getattr(runner.train_loop, 'dataloaders', dict(source=runner.train_dataloader))


class _DomainBatches:
    """Endless ``dict(source=batch, target=batch)``, beginning behind the samples ``seen``.

    mmengine's loop discards what a resumed run has consumed, one by one or, in later versions,
    through :meth:`skip_iter`. Here the samplers have skipped it already, and the loop is handed
    placeholders to discard.
    """

    def __init__(self, dataloaders: Dict[str, DataLoader], seed: int, seen: Dict[str, int],
                 placeholders: int) -> None:
        self._placeholders = placeholders
        self._iterators: Dict[str, Iterator] = {}
        for number, (domain, loader) in enumerate(dataloaders.items()):
            # Another order for each domain: the same one would shuffle data sets of equal size
            # alike, and each source image would meet one target image for ever.
            loader.sampler.seed = seed + number
            loader.dataset.unreadable.share_memory_()  # with the workers, forked or spawned
            loader.sampler.indices = _draws(loader.sampler, (seed, 1 + number), seen[domain])
            self._iterators[domain] = iter(loader)

    def skip_iter(self, num_iters: int) -> None:
        self._placeholders -= num_iters

    def __next__(self) -> 'Dict[str, dict] | None':
        if self._placeholders > 0:
            self._placeholders -= 1
            return None
        return {domain: next(batches) for domain, batches in self._iterators.items()}


def _draws(sampler: InfiniteSampler, seed: Tuple[int, int],
           seen: int) -> Iterator[Tuple[int, tuple]]:
    """This rank's share of the samples behind the first ``seen``: index and seed of each."""
    places = islice(enumerate(sampler._infinite_indices()), seen + sampler.rank, None,
                    sampler.world_size)
    return ((index, (*seed, place)) for place, index in places)


def _with_seeds(dataloader: dict, max_unreadable: int) -> dict:
    dataset = DATASETS.build(dataloader['dataset'])
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    return dict(dataloader, dataset=SeededDataset(
        dataset, max_unreadable, dataloader.get('num_workers', 0)))
