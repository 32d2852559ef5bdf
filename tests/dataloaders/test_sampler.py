from collections import Counter

import pytest

from dataloaders.sampler import TwoStreamBatches


def batches(labelled, unlabelled, sizes=(3, 4), stop=50, start=0, seed=1):
    return list(TwoStreamBatches(labelled, unlabelled, *sizes, seed, start, stop))


def test_labelled_first_and_an_epoch_is_one_pass_of_whole_half_batches():
    labelled, unlabelled = list(range(10)), list(range(10, 40))
    out = batches(labelled, unlabelled)
    assert [iteration for iteration, _ in out] == list(range(50))
    for epoch in range(16):
        first = [index for _, batch in out[3 * epoch : 3 * epoch + 3] for index in batch[:3]]
        assert len(set(first)) == 9 and set(first) <= set(labelled)  # the tenth is dropped
        second = [index for _, batch in out[3 * epoch : 3 * epoch + 3] for index in batch[3:]]
        assert len(set(second)) == 12 and set(second) <= set(unlabelled)
    assert out[0][1] != out[3][1]  # reshuffled


def test_unlabelled_passes_are_complete_within_an_epoch():
    out = batches(list(range(30)), [100, 101, 102, 103, 104], sizes=(3, 4), stop=10)
    second = [index for _, batch in out for index in batch[3:]]
    for number in range(8):
        assert sorted(second[5 * number : 5 * number + 5]) == [100, 101, 102, 103, 104]


def test_68_slices_at_12_give_5_steps():
    assert TwoStreamBatches(range(68), range(68, 100), 12, 12, 0, 0, 1).steps_per_epoch == 5


def test_fewer_labelled_than_a_half_batch_are_cycled():
    for _, batch in batches([7, 8], [1, 2, 3], sizes=(5, 2)):
        assert sorted(Counter(batch[:5]).values()) == [2, 3]


def test_without_unlabelled_both_streams_are_labelled_and_one_stream_is_fine():
    for _, batch in batches([0, 1, 2, 3], [], sizes=(2, 2)):
        assert set(batch) <= {0, 1, 2, 3} and len(batch) == 4
    for _, batch in batches([0, 1, 2, 3], [5], sizes=(2, 0)):
        assert set(batch) <= {0, 1, 2, 3} and len(batch) == 2


@pytest.mark.parametrize("start", [1, 7, 23])
def test_a_resumed_run_goes_on_with_the_same_batches(start):
    everything = batches(list(range(10)), list(range(10, 33)))
    assert batches(list(range(10)), list(range(10, 33)), start=start) == everything[start:]


def test_the_seed_changes_the_order():
    assert batches(range(10), range(10, 33), seed=1) != batches(range(10), range(10, 33), seed=2)
