import numpy as np
import pytest
import torch

from structseg_mmseg.errors import InputError
from structseg_mmseg.models.terms import Adversary, Reconstruction
from tests.conftest import model_cfg


def adversary(mode: str, **kwargs) -> Adversary:
    return Adversary(num_classes=5, mode=mode, discriminator=dict(type='ASPPDiscriminator'),
                     **kwargs)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    source, target = (3 * torch.randn(2, 1, h, 7, generator=generator, dtype=torch.float64)
                      for h in (5, 6))
    return source, target


def test_reconstruction_is_equation_1():
    """A sum over pixels and channels, a mean over the batch."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-1, 1, (2, 3, 3, 4, 5))
    term = Reconstruction(num_classes=5, loss_weight=1e-5,
                          decoder=model_cfg()['terms']['reconstruction']['decoder'])
    expected = 1e-5 * np.mean([np.abs(a[i] - b[i]).sum() for i in range(3)])
    got = term.loss(torch.from_numpy(a), torch.from_numpy(b))
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_discriminator_maximises_equation_2(logits):
    source, target = (d.numpy() for d in logits)
    equation_2 = np.log(1 - sigmoid(target)).mean() + np.log(sigmoid(source)).mean()
    for mode in ('non_saturating', 'minimax'):
        got = adversary(mode, loss_weight=0.1).discriminator_loss(*logits)
        np.testing.assert_allclose(got, -equation_2, rtol=1e-12)


def test_minimax_is_equation_2(logits):
    source, target = (d.numpy() for d in logits)
    equation_2 = np.log(1 - sigmoid(target)).mean() + np.log(sigmoid(source)).mean()
    loss = adversary('minimax', loss_weight=1e-3)
    assert loss.pulls_source
    got = loss.target_game(logits[1]) + loss.source_game(logits[0])
    np.testing.assert_allclose(got, 1e-3 * equation_2, rtol=1e-12)


def test_non_saturating_takes_target_for_source(logits):
    loss = adversary('non_saturating', loss_weight=1e-3)
    assert not loss.pulls_source
    np.testing.assert_allclose(loss.target_game(logits[1]),
                               -1e-3 * np.log(sigmoid(logits[1].numpy())).mean(), rtol=1e-12)


def test_least_squares(logits):
    source, target = (d.numpy() for d in logits)
    loss = adversary('least_squares', loss_weight=1e-3)
    assert not loss.pulls_source
    np.testing.assert_allclose(loss.discriminator_loss(*logits),
                               ((source - 1)**2).mean() + (target**2).mean(), rtol=1e-12)
    np.testing.assert_allclose(loss.target_game(logits[1]), 1e-3 * ((target - 1)**2).mean(),
                               rtol=1e-12)


@pytest.mark.parametrize('mode', Adversary.modes)
def test_a_certain_discriminator_costs_no_nan(mode):
    """log(sigmoid(-1000)) is -inf; the loss is not."""
    loss = adversary(mode)
    far = torch.full((1, 1, 2, 2), 1000., requires_grad=True)
    total = loss.discriminator_loss(-far, far) + loss.target_game(far) + loss.target_game(-far)
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(far.grad).all()


@pytest.mark.parametrize('mode', Adversary.modes)
def test_the_game_pulls_in_the_right_direction(mode):
    """Training moves target logits towards the source's side, and D moves them away."""
    loss = adversary(mode, loss_weight=1)
    target = torch.zeros(1, 1, 2, 2, requires_grad=True)
    loss.target_game(target).backward()
    assert (target.grad < 0).all()
    target.grad = None
    loss.discriminator_loss(torch.zeros(1, 1, 2, 2), target).backward()
    assert (target.grad >= 0).all()


def test_unknown_mode():
    with pytest.raises(InputError, match='mode of an Adversary'):
        adversary('hinge')
