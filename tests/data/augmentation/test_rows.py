from __future__ import annotations

import torch

from kdbench.data.augmentation.rows import put_rows, take_rows, to_bytes


def test_rows_equal_indexing():
    batch = torch.randint(0, 256, (9, 3, 5, 4), dtype=torch.uint8)
    rows = torch.tensor([7, 0, 3])
    assert torch.equal(take_rows(batch, rows), batch[rows])
    part = torch.randint(0, 256, (3, 3, 5, 4), dtype=torch.uint8)
    expected = batch.clone()
    expected[rows] = part
    assert put_rows(batch, rows, part) is batch
    assert torch.equal(batch, expected)
    assert torch.equal(put_rows(batch, rows[:0], part[:0]), expected)


def test_bytes_equal_the_cast():
    values = torch.arange(0, 255.99, 0.01)
    assert torch.equal(to_bytes(values), values.to(torch.uint8))
