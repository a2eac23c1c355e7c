"""ClassSize against a primal solver, and by its gradient."""
import json

import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmseg.registry import MODELS
from scipy.optimize import minimize

from structseg_mmseg.errors import InputError
from structseg_mmseg.models.terms import ClassSize
from tests.helpers.models import NUM_CLASSES, build, domains, model_cfg, optim_cfg
from tests.helpers.passes import Seen


def term(sizes, **kwargs) -> ClassSize:
    """In float64, with rows (alpha, delta, gamma)."""
    made = ClassSize(statistics='none', num_classes=len(sizes), **kwargs).double()
    made.sizes.copy_(torch.tensor(sizes))
    return made


def primal(p: np.ndarray, sizes, slack: float) -> np.ndarray:
    """P (n, C) nearest to p (n, C) under the constraints, over P and the lower bounds' slacks."""
    n, classes = p.shape
    predicted = np.bincount(p.argmax(1), minlength=classes) / n
    constrained = [c for c in range(classes) if predicted[c] > 0.1 * sizes[c][0]]

    def objective(x):
        P, xi = x[:n * classes].reshape(n, classes), x[n * classes:]
        return (P * np.log(P / p)).sum() / n + slack * xi.sum()

    constraints = [dict(type='eq', fun=lambda x: x[:n * classes].reshape(n, classes).sum(1) - 1)]
    for c in constrained:
        alpha, delta, gamma = sizes[c]
        constraints += [
            dict(type='ineq', fun=lambda x, c=c, d=delta: x[c:n * classes:classes].mean()
                 + x[n * classes + c] - d),
            dict(type='ineq', fun=lambda x, c=c, g=gamma: g - x[c:n * classes:classes].mean())]
    found = minimize(
        objective, np.concatenate([p.ravel(), np.full(classes, 0.1)]), method='SLSQP',
        bounds=[(1e-9, 1)] * (n * classes) + [(0, 1)] * classes, constraints=constraints,
        options=dict(maxiter=1000, ftol=1e-14))
    assert found.success, found.message
    return found.x[:n * classes].reshape(n, classes)


CASES = {
    'a lower and an upper bound': ([(0.9, 0.3, 0.5), (0.9, 0, 0.3), (0.9, 0.2, 0.9)], 2),
    'slack is cheaper than the lower bound': ([(0, 0.9, 1), (0, 0, 1), (0, 0, 1)], 0.3),
    'nothing to do': ([(0, 0, 1)] * 3, 2),
    'an absent class is free': ([(9, 0.9, 1), (0, 0, 0.2), (0, 0, 1)], 2),
    'a mean above the upper bound': ([(0, 0.35, 0.3), (0, 0, 1), (0, 0.3, 1)], 2),
}


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('seed', [0, 1])
def test_nearest_distribution_is_a_primal_solvers(case, seed):
    sizes, slack = CASES[case]
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([1, 1, 1], 8)
    expected = primal(p, sizes, slack)
    if case == 'nothing to do':
        np.testing.assert_allclose(expected, p, atol=1e-6)
    else:
        assert np.abs(expected - p).max() > 1e-2
    log_p = torch.from_numpy(np.log(p).T.reshape(1, 3, 2, 4))
    P = term(sizes, slack=slack).nearest(log_p).exp().reshape(3, 8).T
    np.testing.assert_allclose(P, expected, atol=2e-4)


def test_two_classes_by_hand():
    """Where all pixels say (3/4, 1/4), P says (1/2, 1/2) if class 0 is to be at most half."""
    p = torch.tensor([0.75, 0.25]).double().view(1, 2, 1, 1).expand(1, 2, 3, 5)
    P = term([(0, 0.2, 0.5), (1, 0, 1)]).nearest(p.log()).exp()
    torch.testing.assert_close(P, torch.full_like(P, 0.5), rtol=0, atol=1e-10)


def test_bounds_hold_for_confident_predictions():
    """Each image by itself; a share lacks only where its multiplier is at the cap, the slack."""
    generator = torch.Generator().manual_seed(0)
    logits = 8 * torch.randn(4, 5, 12, 15, generator=generator, dtype=torch.float64)
    logits[0, 2] -= 20  # absent
    sizes = [(0.02, 0.3, 0.4), (0.02, 0.01, 0.1), (0.02, 0.25, 0.3), (0, 0, 1), (0, 0.15, 0.3)]
    log_p = logits.log_softmax(1)
    made = term(sizes)
    P = made.nearest(log_p)
    torch.testing.assert_close(made.nearest(log_p[1:2]), P[1:2])
    dual = (P - log_p)[..., 0, 0]
    dual = dual - dual[:, 3:4]  # class 3 is free
    share = P.exp().mean(dim=(2, 3))
    assert dual[0, 2].abs() < 1e-10 and (dual <= made.slack + 1e-10).all()
    for image in range(4):
        for c, (_, delta, gamma) in enumerate(sizes):
            if (image, c) != (0, 2):
                assert share[image, c] < gamma + 1e-3
                assert share[image, c] > delta - 1e-3 or dual[image, c] > made.slack - 1e-10


def test_the_gradient_is_p_minus_P():
    """A tenth of it for classes with alpha above 0.1; averaged over pixels and images."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    made = term([(0.2, 0.5, 0.6), (0.05, 0, 0.1), (0, 0, 1)], loss_weight=0.5)
    losses = made.loss(Seen(logits))
    losses['loss_target'].backward()
    p = logits.detach().softmax(1)
    P = made.nearest(p.log()).exp()
    assert (P - p).abs().max() > 0.1
    pace = torch.tensor([0.1, 1, 1]).double().view(3, 1, 1)
    torch.testing.assert_close(logits.grad, 0.5 * pace * (p - P) / 40, rtol=0, atol=1e-10)
    expected = 0.5 * (P * (P / p).log()).sum(1).mean()
    torch.testing.assert_close(losses['loss_target'].detach(), expected, rtol=0, atol=1e-10)


@pytest.fixture
def statistics(tmp_path):
    path = tmp_path / 'sizes.json'
    sizes = {f'class {c}': dict(lower=0.01, mean=0.1 * c, upper=0.1 * c + 0.05, images=3)
             for c in range(NUM_CLASSES)}
    path.write_text(json.dumps(dict(sizes, **{'class 1': None})))
    return path


def with_sizes(path) -> dict:
    cfg = model_cfg(False, False)
    cfg['terms']['sizes'] = dict(type='ClassSize', statistics=str(path))
    return cfg


def test_it_trains_with_its_file_and_infers_without(statistics):
    model = build(cfg=with_sizes(statistics), double=False).train()
    sizes = model.terms['sizes'].sizes
    torch.testing.assert_close(sizes[3], torch.tensor([0.01, 0.3, 0.35]))
    assert sizes[1].tolist() == [0, 0, 1]  # no source image has it
    logs = model.train_step(domains(torch.Generator().manual_seed(0)),
                            build_optim_wrapper(model, optim_cfg()))
    assert logs['sizes.loss_target'] > 0
    assert not any(key.startswith('terms') for key in model.state_dict())
    statistics.unlink()
    other = MODELS.build(with_sizes(statistics)).eval()
    other.load_state_dict(model.state_dict())
    other(torch.zeros(1, 3, 32, 32))


def test_bad_files_are_named(statistics):
    sizes = json.loads(statistics.read_text())
    sizes.pop('class 0')
    statistics.write_text(json.dumps(sizes))
    with pytest.raises(InputError, match='sizes.json has the sizes of 4 classes .* 5: write it'):
        build(cfg=with_sizes(statistics))
    statistics.unlink()
    with pytest.raises(InputError, match='no file .*sizes.json of class sizes: write it by tools/'):
        build(cfg=with_sizes(statistics))
