"""The closed forms; the passes of a whole model are in test_adv_recon_segmentor.py."""
import pytest
import torch
from mmengine.model import convert_sync_batchnorm
from torch import nn

from structseg_mmseg.models.batch_statistics import SourceStatistics, live_norms, target_last


@pytest.mark.parametrize('momentum', [0.01, 0.1, 0.5, None])
def test_target_first_counts_as_target_last(momentum):
    """0.53 of what is new is the target's at momentum 0.1, and all batches alike at None."""
    norm = nn.BatchNorm2d(1, momentum=momentum).double()
    source, target = (torch.randn(4, 1, 5, 5).double() for _ in range(2))
    for _ in range(3):
        for domain, batch in (('target', target), ('source', source)):
            with target_last(domain, nn.Sequential(norm)):
                norm(batch)
            assert norm.momentum == momentum
    for got, s, t, start in ((norm.running_mean, source.mean(), target.mean(), 0.),
                             (norm.running_var, source.var(), target.var(), 1.)):
        expected = (s + t) / 2
        if momentum is not None:
            m, expected = momentum, start
            for _ in range(3):
                expected = (1 - m)**2 * expected + m * (1 - m) * s + m * t
        torch.testing.assert_close(got, expected.reshape(1), rtol=1e-12, atol=1e-12)


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
    with pytest.raises(KeyError), statistics.in_use([model]):
        model[2].running_mean += 7
        raise KeyError
    assert model[2].running_mean.tolist() == [0, 0]
    assert statistics.layers[1].running_mean.tolist() == [7, 7]
    assert len(statistics.state_dict()) == 6
