import torch
from torch import nn

from utils.ema import update_parameters, update_state


def test_parameters_are_averaged_and_buffers_left():
    student, teacher = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    with torch.no_grad():
        student.weight.fill_(3.0)
        student.running_mean.fill_(5.0)
    update_parameters(teacher, student, 0.75)
    torch.testing.assert_close(teacher.weight, torch.full((2,), 1.5))
    torch.testing.assert_close(teacher.running_mean, torch.zeros(2))
    update_parameters(teacher, student, 0.0)
    torch.testing.assert_close(teacher.weight, student.weight)


def test_the_whole_state_is_averaged_and_integer_buffers_are_copied():
    student, teacher = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    student(torch.randn(4, 2, 3, 3))
    student(torch.randn(4, 2, 3, 3))
    update_state(teacher, student, 0.75)
    torch.testing.assert_close(teacher.running_mean, 0.25 * student.running_mean)
    torch.testing.assert_close(teacher.running_var, 0.75 + 0.25 * student.running_var)
    assert teacher.num_batches_tracked.item() == 2 and teacher.num_batches_tracked.dtype == torch.long
