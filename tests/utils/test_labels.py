import torch
import torch.nn.functional as F

from utils.labels import hard_label, one_hot


def test_hard_label_is_argmax_with_the_first_of_equals():
    scores = torch.rand(3, 4, 8, 6, 5, generator=torch.Generator().manual_seed(0)).mul(4).round()  # many ties
    expected = torch.from_numpy(scores.numpy().argmax(axis=1))
    assert torch.equal(hard_label(scores), expected)
    assert torch.equal(hard_label(scores - 9), expected)  # all below zero
    assert torch.equal(hard_label(scores[:, :1]), torch.zeros_like(expected))
    small = hard_label(scores.requires_grad_(), torch.uint8)
    assert small.dtype == torch.uint8 and torch.equal(small.long(), expected) and not small.requires_grad


def test_one_hot_is_contiguous_and_takes_any_whole_numbers():
    label = torch.randint(0, 5, (2, 6, 7))
    expected = F.one_hot(label, 5).permute(0, 3, 1, 2)
    for dtype in (torch.uint8, torch.int64):
        got = one_hot(label.to(dtype), 5, torch.float64)
        assert got.dtype == torch.float64 and got.is_contiguous()
        assert torch.equal(got.long(), expected)
