"""The closed forms; the passes of a whole model are in test_adv_recon_segmentor.py."""
from itertools import permutations

import pytest
import torch
from mmengine.model import convert_sync_batchnorm
from torch import nn

from structseg_mmseg.models.adaptation.batch_statistics import (SourceStatistics, kept_statistics,
                                                                live_norms, reference_order)

REFERENCE = ('source', 'target', 'mixed', 'masked')


@pytest.mark.parametrize('momentum', [0.01, 0.1, 0.5, None])
@pytest.mark.parametrize('number', [2, 3, 4])
def test_any_order_leaves_the_statistics_of_the_reference_order(momentum, number):
    """Over three iterations, in every order, against plain batch normalisation."""
    reference = REFERENCE[:number]
    batches = {name: torch.randn(4, 1, 5, 5).double() * (place + 1) + place
               for place, name in enumerate(reference)}
    plain = nn.BatchNorm2d(1, momentum=momentum).double()
    for _ in range(3):
        for name in reference:
            plain(batches[name])
    for order in permutations(reference):
        norm = nn.BatchNorm2d(1, momentum=momentum).double()
        for _ in range(3):
            for name in order:
                with reference_order(name, reference, order, nn.Sequential(norm)):
                    norm(batches[name])
                assert norm.momentum == momentum
        for name, value in plain.named_buffers():
            torch.testing.assert_close(getattr(norm, name), value, rtol=1e-12, atol=1e-12)


def test_statistics_can_be_kept_more_than_once():
    norm = nn.BatchNorm2d(1)
    keep = kept_statistics(norm)
    for _ in range(2):
        with pytest.raises(KeyError), keep:
            norm(torch.randn(4, 1, 5, 5))
            raise KeyError
    assert (norm.running_mean, norm.running_var, norm.num_batches_tracked) == (0, 1, 0)
    assert norm.momentum == 0.1


def test_frozen_and_untracked_layers_are_not_live():
    live, frozen = nn.BatchNorm2d(1), nn.BatchNorm2d(1).eval()
    untracked = nn.BatchNorm2d(1, track_running_stats=False)
    assert live_norms(nn.Sequential(live, frozen, untracked), None) == [live]


def test_source_statistics_survive_layers_that_are_replaced():
    """As by SyncBN, after the model is built; an error inside leaves the sets in their places."""
    model = nn.Sequential(nn.BatchNorm2d(2), nn.ReLU(), nn.BatchNorm2d(2))
    statistics = SourceStatistics([model], persistent=True)
    model = convert_sync_batchnorm(model)
    assert isinstance(model[2], nn.SyncBatchNorm)
    with pytest.raises(KeyError), statistics.in_use():
        model[2].running_mean += 7
        raise KeyError
    assert model[2].running_mean.tolist() == [0, 0]
    assert statistics.layers[1].running_mean.tolist() == [7, 7]
    assert len(statistics.state_dict()) == 6
