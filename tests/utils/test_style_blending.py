import numpy as np
import pytest
import torch

from utils.style_blending import blend_styles, draw_blend


def test_reference_numbers(tensors):
    ref = tensors("style_blend")
    blended = blend_styles(ref["images"], ref["lam"], ref["perm"])
    torch.testing.assert_close(blended, ref["blended"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", range(4))
def test_reference_numbers_in_double_precision(tensors, size):
    ref = tensors("style_blend_more")
    blended = blend_styles(ref[f"images_{size}"].double(), ref[f"lam_{size}"], ref[f"perm_{size}"])
    torch.testing.assert_close(blended, ref[f"blended_{size}"], rtol=0, atol=1e-8)


def test_own_style_is_identity_and_partner_style_is_taken_over():
    image = torch.rand(2, 1, 8, 8) * 0.2 + torch.tensor([0.2, 0.6])[:, None, None, None]
    perm = torch.tensor([1, 0])
    torch.testing.assert_close(blend_styles(image, torch.ones(2), perm), image)
    swapped = blend_styles(image, torch.zeros(2), perm)
    torch.testing.assert_close(swapped.mean(dim=(1, 2, 3)), image.mean(dim=(1, 2, 3)).flip(0))


@pytest.mark.parametrize("num_l, num_u", [(4, 4), (2, 6), (6, 2), (1, 1)])
def test_partners_cross_the_streams(num_l, num_u):
    for seed in range(20):
        lam, perm = draw_blend(np.random.default_rng(seed), num_l, num_l + num_u)
        assert (perm[:num_l] >= num_l).all() and (perm[num_l:] < num_l).all()
        assert len(set(perm[:num_l].tolist())) == min(num_l, num_u)
        assert lam.dtype == torch.float32 and lam.shape == (num_l + num_u,) and 0 <= lam.min() and lam.max() <= 1


def test_mixing_coefficients():
    draws = {
        mode: draw_blend(np.random.default_rng(0), 1000, 2000, mode)[0] for mode in ("uniform", "beta", "binomial")
    }
    assert draws["uniform"].var().item() == pytest.approx(1 / 12, abs=0.01)
    assert draws["beta"].var().item() == pytest.approx(1 / 8, abs=0.01)  # Beta(1/2, 1/2)
    assert set(draws["binomial"].tolist()) == {0.0, 1.0} and abs(draws["binomial"].mean() - 0.5) < 0.05
    with pytest.raises(ValueError, match="unknown mixing coefficient 'normal'"):
        draw_blend(np.random.default_rng(0), 2, 4, "normal")


def test_all_labelled_batches_mix_among_themselves():
    _, perm = draw_blend(np.random.default_rng(0), 6, 6)
    assert sorted(perm.tolist()) == list(range(6))
