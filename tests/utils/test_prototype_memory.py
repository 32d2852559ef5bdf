import math

import pytest
import torch

from utils.prototype_memory import PrototypeMemory, contrast_loss


def test_reference_numbers(tensors):
    ref = tensors("prototype_memory")
    memory = PrototypeMemory(4, int(ref["max_size"]))
    for prob, feat, expected in zip(ref["probs"], ref["features"], ref["prototypes_after_each"]):
        memory.enqueue(prob, feat)
        torch.testing.assert_close(memory.prototypes(), expected, rtol=0, atol=1e-5)


def test_reference_rings_in_double_precision(tensors):
    ref = tensors("prototype_memory_more")
    memory = PrototypeMemory(4, int(ref["max_size"])).double()
    for step, (prob, feat) in enumerate(zip(ref["probs"], ref["features"])):
        memory.enqueue(prob.double(), feat.double())
        assert (ref["pointers_after_each"][step] == memory.pointer).all()
        torch.testing.assert_close(memory.features, ref["ring_features_after_each"][step], rtol=0, atol=1e-8)
        # the reference's weights carry a factor n / (n + 1e-8), n = images with the class
        torch.testing.assert_close(memory.weights, ref["ring_weights_after_each"][step], rtol=0, atol=1e-7)
        torch.testing.assert_close(memory.prototypes(), ref["prototypes_after_each"][step], rtol=0, atol=1e-8)


def test_absent_class_by_hand():
    # two images of one pixel: class 1 is the arg-max of the first only, class 2 of neither
    prob = torch.tensor([[0.2, 0.7, 0.1], [0.8, 0.1, 0.1]]).reshape(2, 3, 1, 1)
    feat = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    memory = PrototypeMemory(3, max_size=2, channels=2)
    memory.enqueue(prob, feat)
    torch.testing.assert_close(memory.features[:, 0], torch.tensor([[3.0, 4.0], [1.0, 2.0], [0.0, 0.0]]))
    torch.testing.assert_close(memory.weights[:, 0], torch.tensor([1.0, 0.8, 0.0]))  # over all images; 0 if absent
    torch.testing.assert_close(memory.prototypes()[2], torch.zeros(2))


def test_ring_is_part_of_the_state():
    memory = PrototypeMemory(2, 3)
    memory.enqueue(torch.rand(2, 2, 4, 4), torch.rand(2, 16, 4, 4))
    copy = PrototypeMemory(2, 3)
    copy.load_state_dict(memory.state_dict())
    torch.testing.assert_close(copy.prototypes(), memory.prototypes())
    assert copy.pointer.item() == 1


def test_contrast_loss_by_hand_and_its_gradient():
    z = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1).requires_grad_()
    proto = torch.tensor([[1.0, 0.0], [0.0, 2.0]], requires_grad=True)
    loss = contrast_loss(z, proto, torch.tensor([[[1]]]))  # cosines 0.6 and 0.8
    assert loss.item() == pytest.approx(-math.log(math.exp(0.8) / (math.exp(0.6) + math.exp(0.8))), abs=1e-6)
    loss.backward()
    assert proto.grad is None and z.grad.abs().sum() > 0


def test_a_class_without_prototype_scores_zero():
    loss = contrast_loss(torch.ones(1, 2, 1, 1), torch.zeros(3, 2), torch.tensor([[[2]]]))
    assert loss.item() == pytest.approx(math.log(3), abs=1e-6)
