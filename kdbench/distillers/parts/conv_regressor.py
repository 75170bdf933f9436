"""The regressor of hints: a convolution that brings a student's map to the size and the channels of the teacher's."""

from __future__ import annotations

from torch import nn

from kdbench.models.spec import StageSpec

Grid = tuple[int, int]


def leads(student: Grid, teacher: Grid) -> bool:
    """Whether there is a regressor from one grid to another: to a smaller or equal one, or to twice as many places a side."""
    larger = student[0] >= teacher[0] and student[1] >= teacher[1]
    return larger or (2 * student[0] == teacher[0] and 2 * student[1] == teacher[1])


def conv_regressor(student: StageSpec, teacher: StageSpec) -> nn.Sequential:
    """(B, C_s, H_s, W_s) -> (B, C_t, H_t, W_t), with batch normalisation: stride 2 where the student's grid is twice the teacher's,
    transposed where it is half, else a kernel as large as the difference asks for."""
    s, t = student.channels, teacher.channels
    (sh, sw), (th, tw) = student.grid, teacher.grid
    if (sh, sw) == (2 * th, 2 * tw):
        conv: nn.Module = nn.Conv2d(s, t, 3, stride=2, padding=1)
    elif (2 * sh, 2 * sw) == (th, tw):
        conv = nn.ConvTranspose2d(s, t, 4, stride=2, padding=1)
    else:
        conv = nn.Conv2d(s, t, (1 + sh - th, 1 + sw - tw))
    return nn.Sequential(conv, nn.BatchNorm2d(t))
