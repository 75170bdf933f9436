from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch
import torchvision.datasets as tvd
from replicas import cifar10_files, cifar100_files, pack, patched, python2_pickle, write_folder

from kdbench.data.sets import cifar10, cifar100
from kdbench.data.sets.formats import cifar_files
from kdbench.errors import DataError


@pytest.fixture
def small100(monkeypatch):
    files = cifar100_files()
    packed = pack("cifar-100-python", files)
    monkeypatch.setattr(cifar100, "ARCHIVE", patched(cifar100.ARCHIVE, files, packed))
    return files, packed


def same_images(split, blob: bytes, key: str) -> None:
    content = pickle.loads(blob, encoding="latin1")  # noqa: S301 - written by this test
    assert torch.equal(split.images, torch.from_numpy(content["data"].reshape(-1, 3, 32, 32)))
    assert split.labels.tolist() == content[key]


@pytest.mark.parametrize("packed", [False, True])
def test_cifar100(tmp_path, small100, packed):
    files, archive = small100
    if packed:
        (tmp_path / "cifar-100-python.tar.gz").write_bytes(archive)
    else:
        write_folder(tmp_path, "cifar-100-python", files)
    source = cifar100.cifar100(str(tmp_path), allow_partial=True)
    same_images(source.train, files["train"], "fine_labels")
    same_images(source.test, files["test"], "fine_labels")
    assert source.classes == ["name0", "name1", "name2", "name3"]
    assert source.train.images.dtype == torch.uint8
    assert source.train.images.is_contiguous()
    assert source.standard.crop == "pad"


@pytest.mark.parametrize("packed", [False, True])
def test_cifar10(tmp_path, monkeypatch, packed):
    files = cifar10_files()
    archive = pack("cifar-10-batches-py", files)
    monkeypatch.setattr(cifar10, "ARCHIVE", patched(cifar10.ARCHIVE, files, archive))
    if packed:
        (tmp_path / "cifar-10-python.tar.gz").write_bytes(archive)
    else:
        write_folder(tmp_path, "cifar-10-batches-py", files)
    source = cifar10.cifar10(str(tmp_path), allow_partial=True)
    assert len(source.train) == 50
    assert len(source.test) == 10
    expected = [pickle.loads(files[f"data_batch_{i}"], encoding="latin1")["data"] for i in range(1, 6)]  # noqa: S301
    assert torch.equal(source.train.images.flatten(1), torch.from_numpy(np.concatenate(expected)))


def test_replica_looks_like_torchvisions_idea_of_it(tmp_path, monkeypatch, small100):
    files, _ = small100
    write_folder(tmp_path, "cifar-100-python", files)
    monkeypatch.setattr(tvd.CIFAR100, "_check_integrity", lambda self: True)
    monkeypatch.setattr(tvd.cifar, "check_integrity", lambda *a: True)
    theirs = tvd.CIFAR100(str(tmp_path), train=True)
    ours = cifar100.cifar100(str(tmp_path), allow_partial=True).train
    assert np.array_equal(theirs.data, ours.images.permute(0, 2, 3, 1).numpy())
    assert theirs.targets == ours.labels.tolist()


def test_constants_are_torchvisions():
    for module, reference in ((cifar100, tvd.CIFAR100), (cifar10, tvd.CIFAR10)):
        archive = module.ARCHIVE
        assert (archive.url, archive.md5, archive.folder) == (reference.url, reference.tgz_md5, reference.base_folder)
        expected = dict(
            [*reference.train_list, *reference.test_list, [reference.meta["filename"], reference.meta["md5"]]]
        )
        assert archive.files == expected


def test_counts_are_checked(tmp_path, small100):
    write_folder(tmp_path, "cifar-100-python", small100[0])
    with pytest.raises(DataError, match=r"4 classes instead of 100.*allow_partial"):
        cifar100.cifar100(str(tmp_path))


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_wrong_md5_is_found_before_unpickling(tmp_path, small100, monkeypatch):
    files, packed = small100
    write_folder(tmp_path, "cifar-100-python", {**files, "test": files["test"] + b"x"})
    monkeypatch.setattr(
        cifar_files, "_unpickle", lambda blob, where: pytest.fail("unpickled") if blob[-1:] == b"x" else {}
    )
    with pytest.raises(DataError, match=r"cifar-100-python/test: md5 is .* instead of .*download"):
        cifar100.cifar100(str(tmp_path))
    other = tmp_path / "other"
    other.mkdir()
    (other / "cifar-100-python.tar.gz").write_bytes(packed[:-10])
    with pytest.raises(DataError, match=r"tar\.gz: md5 is"):
        cifar100.cifar100(str(other))


@pytest.mark.parametrize("payload", [pickle.dumps(Bomb()), pickle.dumps({"data": Bomb()}), b"\x80\x02garbage", b""])
def test_a_pickle_cannot_run_anything(tmp_path, monkeypatch, payload):
    files = {**cifar100_files(), "meta": payload}
    monkeypatch.setattr(cifar100, "ARCHIVE", patched(cifar100.ARCHIVE, files))
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path, "cifar-100-python", files)
    with pytest.raises(DataError, match=r"cifar-100-python/meta: cannot be read"):
        cifar100.cifar100(str(tmp_path))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "content", [{"data": np.zeros((2, 100), np.uint8), "fine_labels": [0, 1]}, {"fine_labels": [0]}, {"data": "text"}]
)
def test_another_format(tmp_path, monkeypatch, content):
    files = {**cifar100_files(), "train": python2_pickle(content)}
    monkeypatch.setattr(cifar100, "ARCHIVE", patched(cifar100.ARCHIVE, files))
    write_folder(tmp_path, "cifar-100-python", files)
    with pytest.raises(DataError, match="not in the python version's format"):
        cifar100.cifar100(str(tmp_path), allow_partial=True)


def test_labels_without_names(tmp_path, monkeypatch):
    files = {**cifar100_files(), "meta": python2_pickle({"fine_label_names": ["only"]})}
    monkeypatch.setattr(cifar100, "ARCHIVE", patched(cifar100.ARCHIVE, files))
    write_folder(tmp_path, "cifar-100-python", files)
    with pytest.raises(DataError, match=r"1 class names, but labels 0\.\.3"):
        cifar100.cifar100(str(tmp_path), allow_partial=True)


def test_partial_folder_and_partial_archive(tmp_path, monkeypatch, small100):
    files, _ = small100
    write_folder(tmp_path, "cifar-100-python", {k: v for k, v in files.items() if k != "test"})
    with pytest.raises(DataError, match=r"cifar-100-python/test: No such file.*extract"):
        cifar100.cifar100(str(tmp_path))
    other = tmp_path / "other"
    other.mkdir()
    packed = pack("cifar-100-python", {k: v for k, v in files.items() if k != "meta"})
    (other / "cifar-100-python.tar.gz").write_bytes(packed)
    monkeypatch.setattr(cifar100, "ARCHIVE", patched(cifar100.ARCHIVE, files, packed))
    with pytest.raises(DataError, match=r"no complete archive"):
        cifar100.cifar100(str(other))


def test_download(tmp_path, monkeypatch, small100):
    def offline(url, root, filename, md5):
        os.makedirs(root, exist_ok=True)
        with open(os.path.join(root, filename), "wb") as part:
            part.write(b"half")
        raise OSError("no route to host")

    monkeypatch.setattr(cifar_files, "download_url", offline)
    with pytest.raises(DataError, match=r"no route to host.*download https.*put cifar-100-python.tar.gz") as caught:
        cifar100.cifar100(str(tmp_path / "new"))
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(DataError, match="no such folder; download https"):
        cifar100.cifar100(str(tmp_path / "new"), download=False)

    def online(url, root, filename, md5):
        with open(os.path.join(root, filename), "wb") as part:
            part.write(small100[1])

    monkeypatch.setattr(cifar_files, "download_url", online)
    assert len(cifar100.cifar100(str(tmp_path / "new"), allow_partial=True).train) == 40
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["cifar-100-python.tar.gz"]
