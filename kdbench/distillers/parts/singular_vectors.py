"""Leading singular vectors of a map, with a gradient that stays finite."""

from __future__ import annotations

import torch
from torch import Tensor


def as_matrices(feature_map: Tensor, layout: str) -> Tensor:
    """(B, C, H, W) -> (B, C H, W), or (B, H W, C) for layout ``authors``."""
    return feature_map.flatten(2).transpose(1, 2) if layout == "authors" else feature_map.flatten(1, 2)


def leading_vectors(matrices: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first right singular vectors of each matrix and their singular values.

    The values are worked out in float64 from the smaller of the two Gram matrices, which is much faster than a decomposition of a
    thin matrix. The gradient is the first-order change of a singular vector, ``dv_j = sum_i v_i (v_i' dA v_j) / (s_j^2 - s_i^2)``
    with ``A = X' X``; pairs of equal singular values, of which it does not exist, are left out.

    Args:
        matrices: (B, r, n).
        count: at most min(r, n) of them are given.

    Returns:
        Vectors (B, n, m), largest value first, with a gradient; values (B, m) up to a common factor of a matrix, without.
    """
    # Vectors do not depend on the scale, which would be squared here.
    scale = matrices.detach().abs().amax((1, 2), keepdim=True)
    x = matrices / torch.where(scale > 0, scale, 1.0)
    with torch.no_grad():
        basis, square = _decomposed(x.double())
        gaps = square[:, None, :] - square[:, :, None]  # (B, i, j): s_j^2 - s_i^2
        same = gaps.abs() <= 10 * torch.finfo(x.dtype).eps * square[:, None, :1]
        inverse = torch.where(same, 0.0, 1.0 / torch.where(same, 1.0, gaps)).to(x.dtype)
        dead = square <= 0
        outside = torch.where(dead, 0.0, 1.0 / torch.where(dead, 1.0, square)).to(x.dtype)
        basis, values = basis.to(x.dtype), square.sqrt().to(x.dtype)
    m = min(count, basis.shape[2])
    vectors = basis[:, :, :m]
    if not x.requires_grad:
        return vectors, values[:, :m]
    product = x.transpose(1, 2) @ (x @ vectors)
    change = product - product.detach()  # 0, with the gradient of A v_j for a fixed v_j
    inside = basis.transpose(1, 2) @ change
    moved = basis @ (inverse[:, :, :m] * inside)
    if basis.shape[2] < basis.shape[1]:  # what leaves the space of the rows
        moved = moved + outside[:, None, :m] * (change - basis @ inside)
    return vectors + moved, values[:, :m]


def _decomposed(x: Tensor) -> tuple[Tensor, Tensor]:
    """All right singular vectors (B, n, min(r, n)) and squared singular values, largest first."""
    if x.shape[1] >= x.shape[2]:
        square, vectors = torch.linalg.eigh(x.transpose(1, 2) @ x)
    else:
        square, left = torch.linalg.eigh(x @ x.transpose(1, 2))
        vectors = torch.nn.functional.normalize(x.transpose(1, 2) @ left, dim=1)
    return vectors.flip(2), square.flip(1).clamp_min(0.0)
