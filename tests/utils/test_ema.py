import torch
from torch import nn

from utils.ema import update_parameters


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
