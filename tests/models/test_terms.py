import numpy as np
import pytest
import torch

from structseg_mmseg.errors import InputError
from structseg_mmseg.models.terms import Adversary, MinEntropy, Reconstruction
from tests.helpers.models import model_cfg
from tests.helpers.passes import Seen


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
    term.decoder.forward = lambda features: torch.from_numpy(a)
    view = Seen(None, name='source')
    view.inputs, view.image = torch.from_numpy(b), (torch.from_numpy(b) + 1) * 127.5
    np.testing.assert_allclose(term.loss(view)['loss_source'], expected, rtol=1e-12)


def test_discriminator_maximises_equation_2(logits):
    source, target = (d.numpy() for d in logits)
    equation_2 = np.log(1 - sigmoid(target)).mean() + np.log(sigmoid(source)).mean()
    for mode in ('non_saturating', 'minimax', 'confusion'):
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


def test_confusion_is_half_source_half_target(logits):
    """(L_D + L_Dinv) / 2 of FCNs in the wild, L_Dinv with labels inverted, on both domains."""
    source, target = (sigmoid(d.numpy()) for d in logits)
    right = -np.log(source).mean() - np.log(1 - target).mean()
    inverted = -np.log(1 - source).mean() - np.log(target).mean()
    loss = adversary('confusion', loss_weight=0.1)
    assert loss.pulls_source
    got = loss.target_game(logits[1]) + loss.source_game(logits[0])
    np.testing.assert_allclose(got, 0.1 * (right + inverted) / 2, rtol=1e-12)


def test_confusion_is_content_where_d_is_undecided():
    d = torch.zeros(1, 1, 2, 2, requires_grad=True)
    adversary('confusion').target_game(d).backward()
    assert (d.grad == 0).all()


def entropy_maps(softmax: np.ndarray) -> np.ndarray:
    """ADVENT's, with logarithms of base C and 0 log 0 = 0."""
    return -softmax * np.log(np.where(softmax > 0, softmax, 1)) / np.log(softmax.shape[1])


def test_what_d_looks_at():
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((2, 5, 3, 4))
    logits[0, :, 0, 0] = [1e4, 0, 0, 0, 0]  # a pixel whose entropy is 0
    features = [torch.zeros(2, 3, 4, 4), torch.rand(2, 7, 2, 2)]
    view = Seen({('auxiliary_head', 'image'): torch.from_numpy(logits)}, features)
    softmax = np.exp(logits - logits.max(1, keepdims=True))
    softmax /= softmax.sum(1, keepdims=True)
    for of, expected in (('softmax', softmax), ('logits', logits),
                         ('entropy', entropy_maps(softmax))):
        term = adversary('minimax', of=of, head='auxiliary_head', size='image')
        assert term.heads == ('auxiliary_head', )
        np.testing.assert_allclose(term._input(view), expected, rtol=1e-12, atol=1e-15)
    for size, expected in (('logits', features[1]), ('image', view.at_image(features[1]))):
        term = Adversary(num_classes=5, of='features', size=size,
                         discriminator=dict(type='ASPPDiscriminator', in_channels=7))
        assert term.heads == () and torch.equal(term._input(view), expected)
        term.loss(view)
        assert torch.equal(view.notes['target'], expected)


def test_min_entropy_is_advents():
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((2, 5, 3, 4))
    logits[0, :, 0, 0] = [1e4, 0, 0, 0, 0]
    logits[1, :, 1, 1] = 2  # a pixel whose entropy is 1
    softmax = np.exp(logits - logits.max(1, keepdims=True))
    softmax /= softmax.sum(1, keepdims=True)
    entropy = entropy_maps(softmax).sum(1)
    np.testing.assert_allclose([entropy[0, 0, 0], entropy[1, 1, 1]], [0, 1], atol=1e-12)
    term = MinEntropy(num_classes=5, loss_weight=1e-3, head='auxiliary_head')
    x = torch.from_numpy(logits).requires_grad_()
    losses = term.loss(Seen({('auxiliary_head', 'image'): x}))
    np.testing.assert_allclose(losses['loss_target'].detach(), 1e-3 * entropy.mean(), rtol=1e-12)
    assert not list(term.parameters())
    losses['loss_target'].backward()
    assert torch.isfinite(x.grad).all()


def test_a_step_may_wait_for_d():
    """Its mean accuracy of the last 100 iterations, 50 before the first, beside the weights."""
    with torch.no_grad():
        term = adversary('minimax', ready_above=60)
        notes: dict = {}
        target, source = (Seen({('decode_head', 'logits'): torch.zeros(1, 5, 2, 2)}, name=name,
                               notes=notes) for name in ('target', 'source'))
        term.accuracy = lambda source, target: (torch.tensor(100.), torch.tensor(80.))
        for iteration in range(1, 30):
            term.loss(target)
            assert term.ready == (50 + 40 * (iteration - 1) / 100 > 60)
            term.loss(source)
        assert term.ready
        again = adversary('minimax', ready_above=60)
        assert not again.ready
        again.load_state_dict(term.state_dict())
        assert again.ready
        for _ in range(100):
            term.loss(target)
            term.loss(source)
        torch.testing.assert_close(term.accuracies.mean(), torch.tensor(90.))
    assert adversary('minimax').ready and not list(adversary('minimax').buffers())


@pytest.mark.parametrize('mode', Adversary.modes)
def test_a_certain_discriminator_costs_no_nan(mode):
    """log(sigmoid(-1000)) is -inf; the loss is not."""
    loss = adversary(mode)
    far = torch.full((1, 1, 2, 2), 1000., requires_grad=True)
    total = loss.discriminator_loss(-far, far) + loss.target_game(far) + loss.target_game(-far)
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(far.grad).all()


@pytest.mark.parametrize('mode', ('non_saturating', 'minimax', 'least_squares'))
def test_the_game_pulls_in_the_right_direction(mode):
    """Training moves target logits towards the source's side, and D moves them away."""
    loss = adversary(mode, loss_weight=1)
    target = torch.zeros(1, 1, 2, 2, requires_grad=True)
    loss.target_game(target).backward()
    assert (target.grad < 0).all()
    target.grad = None
    loss.discriminator_loss(torch.zeros(1, 1, 2, 2), target + 0.1).backward()
    assert (target.grad > 0).all()


@pytest.mark.parametrize('key', ['mode', 'size', 'of', 'head'])
def test_unknown_choices_are_named(key):
    with pytest.raises(InputError, match=f"{key} of Adversary is 'other': choose "):
        adversary(**{'mode': 'minimax', key: 'other'})


def test_the_width_of_features_must_be_said():
    with pytest.raises(InputError, match='needs discriminator.in_channels'):
        adversary('minimax', of='features')
