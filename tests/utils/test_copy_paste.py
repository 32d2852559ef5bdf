import numpy as np
import pytest
import torch

from utils.copy_paste import box_mask, draw_box, paste


@pytest.mark.parametrize("size", [(256, 256), (48, 48), (32, 48), (16, 80)])
def test_boxes_lie_inside_and_reach_every_corner(size):
    boxes = [draw_box(np.random.default_rng(seed), size) for seed in range(3000)]
    height, width = int(2 / 3 * size[0]), int(2 / 3 * size[1])
    assert {box[2:] for box in boxes} == {(height, width)}
    rows, columns = {box[0] for box in boxes}, {box[1] for box in boxes}
    assert min(rows) == 0 and max(rows) == size[0] - height - 1  # the upper end is excluded
    assert min(columns) == 0 and max(columns) == size[1] - width - 1


def test_reference_boxes_give_the_reference_mask(tensors):
    ref = tensors("dice_more")
    mask = box_mask(ref["box"].tolist(), ref["mask"].shape[1:])
    assert torch.equal(mask.expand(ref["mask"].shape), ref["mask"].float())


def test_paste_takes_each_pixel_from_one_of_the_two():
    mask = box_mask((1, 2, 2, 1), (4, 4))
    a, b = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    mixed = paste(a, b, mask)
    assert torch.equal(mixed, (1 - mask).expand_as(mixed)) and mixed.sum() == 2 * 2
    labels = paste(torch.full((2, 4, 4), 3), torch.full((2, 4, 4), 7), mask)
    assert labels.dtype == torch.long and set(labels.unique().tolist()) == {3, 7}
    assert torch.equal(paste(a, a, mask), a)  # idempotent
