from __future__ import annotations

import functools
import logging
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import torchvision.datasets as tvd
from replicas import aircraft as aircraft_replica
from replicas import class_tree, cub, write_jpeg

from kdbench.config.load import load_config
from kdbench.data.build import build_data
from kdbench.data.sets import aircraft, cub200, folder, imagenet, tiny_imagenet
from kdbench.data.sets.formats import fetched_folder
from kdbench.errors import DataError, UnknownNameError

WNIDS = ["n01440764", "n01443537", "n02102040", "n02979186"]


@pytest.fixture
def tree(tmp_path):
    return class_tree(tmp_path, ["cat", "dog", "emu"], {"train": 4, "val": 2})


@pytest.fixture
def nets(tmp_path):
    return class_tree(tmp_path, WNIDS, {"train": 3, "val": 2}, suffix=".JPEG")


def test_folder(tree):
    source = folder.folder(str(tree))
    assert source.classes == ["cat", "dog", "emu"]
    assert (len(source.train), len(source.test)) == (12, 6)
    reference = tvd.ImageFolder(str(tree / "train"))
    assert [str(tree / "train" / f) for f in source.train.files] == [path for path, _ in reference.samples]
    assert source.train.labels.tolist() == reference.targets
    assert source.standard.crop == "rrc"
    assert source.train.fetch(torch.tensor([3, 0])).shape == (2, 3, 224, 224)


def test_folder_through_the_configuration(tree, monkeypatch):
    cfg = load_config(None, {"DATASET.TYPE": f"folder:{tree}", "DATASET.VAL_FRACTION": 0.25, "DATASET.PER_CLASS": 2})
    source = build_data(cfg)
    assert len(source.val) == 3
    assert torch.bincount(source.train.labels).tolist() == [2, 2, 2]
    assert not set(source.val.files) & set(source.train.files)
    plain = load_config(None, {"DATASET.TYPE": "folder", "DATASET.ROOT": str(tree)})
    assert build_data(plain).classes == source.classes
    with pytest.raises(DataError, match=r"no option 'verfy' \(did you mean 'verify'"):
        build_data(load_config(None, {"DATASET.TYPE": f"folder:{tree}", "DATASET.OPTIONS.verfy": True}))
    with pytest.raises(UnknownNameError):
        build_data(load_config(None, {"DATASET.TYPE": "fodler:x"}))


def test_test_folder_stands_in_for_val(tmp_path):
    class_tree(tmp_path, ["a", "b"], {"train": 1, "test": 2})
    assert len(folder.folder(str(tmp_path)).test) == 4


def test_subset_and_digest(tree):
    split = folder.folder(str(tree)).train
    part = split.subset(torch.tensor([5, 1]))
    assert part.files == [split.files[5], split.files[1]]
    assert part.labels.tolist() == split.labels[[5, 1]].tolist()
    assert torch.equal(part.fetch(torch.tensor([0])), split.fetch(torch.tensor([5])))
    first = split.digest()
    assert first == folder.folder(str(tree)).train.digest()
    assert first != part.digest()
    path = tree / "train" / split.files[0]
    path.write_bytes(path.read_bytes() + b"\0")
    assert split.digest() != first
    path.unlink()
    with pytest.raises(DataError, match=r"cat_0.jpg: No such file"):
        split.digest()


def test_the_fingerprint_does_not_depend_on_the_place(tree, tmp_path_factory):
    other = tmp_path_factory.mktemp("elsewhere") / "copy"
    tree.rename(other)
    first = folder.folder(str(other)).fingerprint()
    other.rename(tree)
    assert folder.folder(str(tree)).fingerprint() == first


def test_folder_errors(tmp_path):
    with pytest.raises(DataError, match=r"no such folder.*folder:<path>"):
        folder.folder(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"train: no such folder"):
        folder.folder(str(tmp_path))
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="holds no class folders"):
        folder.folder(str(tmp_path))
    class_tree(tmp_path, ["a", "b"], {"train": 1, "val": 1})
    (tmp_path / "train" / "empty").mkdir()
    with pytest.raises(DataError, match=r"train/empty: holds no images"):
        folder.folder(str(tmp_path))
    write_jpeg(tmp_path / "train" / "empty" / "x.jpg", 3)
    with pytest.raises(DataError, match="'empty' is in one of them only"):
        folder.folder(str(tmp_path))


def truncate(path):
    path.write_bytes(path.read_bytes()[:200])
    return path


def test_broken_images(tree, caplog):
    bad = truncate(tree / "train" / "dog" / "dog_1.jpg")
    source = folder.folder(str(tree))
    with pytest.raises(DataError, match=r"dog_1\.jpg: cannot be decoded") as caught:
        source.train.fetch(torch.arange(12))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"1 broken images, the first is dog/dog_1\.jpg"):
        folder.folder(str(tree), verify=True)
    with caplog.at_level(logging.WARNING, "kdbench.data"):
        rest = folder.folder(str(tree), verify=True, max_broken=1)
    assert str(bad) in caplog.text
    assert "left out: 1 of 12 images of train/" in caplog.text
    assert [f for f in source.train.files if f not in rest.train.files] == ["dog/dog_1.jpg"]
    assert rest.train.fetch(torch.arange(11)).shape[0] == 11
    truncate(tree / "train" / "dog" / "dog_2.jpg").write_bytes(b"not an image")
    with pytest.raises(DataError, match="2 broken images"):
        folder.folder(str(tree), verify=True, max_broken=1)


def test_imagenet(nets):
    source = imagenet.imagenet(str(nets), allow_partial=True)
    assert source.classes == WNIDS
    assert (len(source.train), len(source.test)) == (12, 8)
    with pytest.raises(DataError, match=r"4 classes instead of 1000"):
        imagenet.imagenet(str(nets))


def test_imagenet_classes(nets, monkeypatch):
    assert imagenet.imagenet(str(nets), classes=2, allow_partial=True).classes == WNIDS[:2]
    chosen = imagenet.imagenet(str(nets), classes=[WNIDS[3], WNIDS[0]], allow_partial=True)
    assert chosen.classes == [WNIDS[3], WNIDS[0]]
    assert chosen.train.files[0].startswith(WNIDS[3])
    with pytest.raises(DataError, match="4 validation images instead of 100"):
        imagenet.imagenet(str(nets), classes=2)
    monkeypatch.setattr(imagenet, "_VAL_PER_CLASS", 2)
    assert len(imagenet.imagenet(str(nets), classes=2).test) == 4
    for part in ("train", "val"):
        (nets / part / WNIDS[0]).rename(nets / part / "n01440765")
    with pytest.raises(DataError, match=r"'n01440765' is no WordNet id of ILSVRC 2012 \(did you mean 'n01440764'"):
        imagenet.imagenet(str(nets), classes=["n01440765"])
    for part in ("train", "val"):
        (nets / part / "n01440765").rename(nets / part / WNIDS[0])
    with pytest.raises(DataError, match="holds 4 class folders"):
        imagenet.imagenet(str(nets), classes=5)
    with pytest.raises(DataError, match=r"class folder 'n0' is missing \(1 in all\)"):
        imagenet.imagenet(str(nets), classes=["n0"])
    for wrong in (True, 1.5, [], ["a", "a"]):
        with pytest.raises(DataError, match=r"DATASET\.OPTIONS\.classes"):
            imagenet.imagenet(str(nets), classes=wrong)


def test_imagenet_missing(tmp_path):
    with pytest.raises(DataError, match=r"no such folder; extract ILSVRC2012"):
        imagenet.imagenet(str(tmp_path / "x"))
    class_tree(tmp_path, WNIDS, {"train": 1})
    write_jpeg(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG", 1)
    with pytest.raises(DataError, match=r"val: class folder .* is missing"):
        imagenet.imagenet(str(tmp_path))


def test_cub(tmp_path):
    top = cub(tmp_path)
    source = cub200.cub200(str(tmp_path), allow_partial=True)
    assert source.classes == ["001.Bird_0", "002.Bird_1", "003.Bird_2"]
    assert source.train.files == [f"{c}/Bird_{i}.jpg" for c in source.classes for i in (0, 2)]
    assert source.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert source.train.fetch(torch.tensor([1])).shape == (1, 3, 224, 224)
    with pytest.raises(DataError, match="3 classes instead of 200"):
        cub200.cub200(str(tmp_path))
    (top / "images.txt").write_text("1\n")
    with pytest.raises(DataError, match=r"images\.txt:1: '1' does not have 2 fields"):
        cub200.cub200(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("image_class_labels.txt", "1 9\n", r"image 1 has '9', expected 1\.\.3"),
        ("image_class_labels.txt", "1 one\n", "image 1 has 'one'"),
        (
            "image_class_labels.txt",
            "\n".join(f"{i} 1" for i in range(1, 13)),
            "image 5 lies in '002.Bird_1', but its class is",
        ),
        ("train_test_split.txt", "2 1\n", "image 1 has 'no value'"),
        ("train_test_split.txt", "1 1\n1 0\n", "number 1 stands twice"),
    ],
)
def test_cub_bad_lines(tmp_path, file, text, message):
    (cub(tmp_path) / file).write_text(text)
    with pytest.raises(DataError, match=message):
        cub200.cub200(str(tmp_path))


def test_cub_missing(tmp_path):
    with pytest.raises(DataError, match=r"no such folder; download CUB"):
        cub200.cub200(str(tmp_path))
    top = cub(tmp_path)
    (top / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"classes\.txt: No such file"):
        cub200.cub200(str(tmp_path))
    (top / "classes.txt").write_bytes(b"1 \xff\xfe\n")
    with pytest.raises(DataError, match=r"not a text file"):
        cub200.cub200(str(tmp_path))


def test_aircraft(tmp_path):
    top = aircraft_replica(tmp_path)
    source = aircraft.aircraft(str(tmp_path), allow_partial=True)
    for part, split in (("trainval", source.train), ("test", source.test)):
        theirs = tvd.FGVCAircraft(str(tmp_path), part)
        assert [str(split.root / f) for f in split.files] == theirs._image_files
        assert split.labels.tolist() == theirs._labels
        assert source.classes == theirs.classes
    with pytest.raises(DataError, match="3 classes instead of 100"):
        aircraft.aircraft(str(tmp_path))
    (top / "images_variant_test.txt").write_text("0000001 707-32\n")
    with pytest.raises(DataError, match=r"unknown variant '707-32' \(did you mean '707-320'"):
        aircraft.aircraft(str(tmp_path))
    with pytest.raises(DataError, match=r"no such folder; download fgvc"):
        aircraft.aircraft(str(tmp_path / "x"), download=False)


@pytest.fixture
def served(tmp_path):
    """A folder, and the address under which it is served."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_aircraft_is_downloaded_whole_or_not_at_all(tmp_path, monkeypatch, served):
    folder, address = served
    aircraft_replica(tmp_path / "there")
    archive = folder / "fgvc-aircraft-2013b.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "there" / "fgvc-aircraft-2013b", "fgvc-aircraft-2013b")
    monkeypatch.setattr(tvd.FGVCAircraft, "_URL", f"{address}/{archive.name}")
    here = tmp_path / "here"
    assert len(aircraft.aircraft(str(here), allow_partial=True).train) > 0
    assert [p.name for p in here.iterdir()] == ["fgvc-aircraft-2013b"]
    archive.write_bytes(archive.read_bytes()[:500])
    for reason in ("", "HTTP Error 404"):
        with pytest.raises(DataError, match=f"cannot be downloaded .*{reason}.*; download fgvc-aircraft") as caught:
            aircraft.aircraft(str(tmp_path / "cut"))
        assert "\n" not in str(caught.value)
        assert list((tmp_path / "cut").iterdir()) == []
        archive.unlink(missing_ok=True)


def test_other_formats_are_rgb(tmp_path):
    from PIL import Image
    from replicas import picture

    from kdbench.data.augmentation.decode import decode

    for mode, suffix in (("L", "png"), ("RGBA", "png"), ("P", "png"), ("L", "jpg"), ("CMYK", "jpg"), ("RGB", "webp")):
        path = tmp_path / f"{mode}.{suffix}"
        picture(1).convert(mode).save(path)
        image = decode(path)
        assert image.shape == (3, 48, 60)
        reference = torch.from_numpy(__import__("numpy").array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
        assert (image.int() - reference.int()).abs().float().mean() < 3, mode


@pytest.fixture
def tiny(tmp_path):
    top = tmp_path / "tiny-imagenet-200"
    for name in WNIDS:
        for number in range(3):
            write_jpeg(top / "train" / name / "images" / f"{name}_{number}.JPEG", number, width=64, height=64)
        (top / "train" / name / f"{name}_boxes.txt").write_text("x 0 0 1 1\n")
    for number in range(8):
        write_jpeg(top / "val" / "images" / f"val_{number}.JPEG", number, width=64, height=64)
    lines = (f"val_{number}.JPEG\t{WNIDS[number % 4]}\t0\t0\t62\t62\n" for number in range(8))
    (top / "val" / "val_annotations.txt").write_text("".join(lines))
    (top / "wnids.txt").write_text("".join(f"{name}\n" for name in reversed(WNIDS)))
    return tmp_path


def test_tiny_imagenet(tiny):
    source = tiny_imagenet.tiny_imagenet(str(tiny), download=False, allow_partial=True)
    assert source.classes == WNIDS  # by code point, as folders of images are read everywhere
    assert source.train.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert source.train.files[3] == f"{WNIDS[1]}/images/{WNIDS[1]}_0.JPEG"
    assert source.test.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert source.test.fetch(torch.tensor([0])).shape == (1, 3, 64, 64)
    with pytest.raises(DataError, match="4 classes instead of 200"):
        tiny_imagenet.tiny_imagenet(str(tiny), download=False)


def test_tiny_imagenets_mistakes_are_one_line(tiny, tmp_path, monkeypatch):
    top = tiny / "tiny-imagenet-200"
    with pytest.raises(DataError, match="no such folder; download http"):
        tiny_imagenet.tiny_imagenet(str(tmp_path / "none"), download=False)
    annotations = top / "val" / "val_annotations.txt"
    whole = annotations.read_text()
    for line, words in (
        ("val_0.JPEG\tn01440765\t0 0 1 1\n", "did you mean 'n01440764'"),
        ("../x.JPEG\tn01440764\t0 0 1 1\n", "is no name of a file"),
        ("val_0.JPEG\n", "does not have 3 fields"),
    ):
        annotations.write_text(line + whole)
        with pytest.raises(DataError, match=words):
            tiny_imagenet.tiny_imagenet(str(tiny), download=False, allow_partial=True)

    def refused(*words, **options):
        raise OSError("no network")

    monkeypatch.setattr(fetched_folder, "download_and_extract_archive", refused)
    with pytest.raises(DataError, match=r"cannot be downloaded \(no network\)"):
        tiny_imagenet.tiny_imagenet(str(tmp_path / "new"))
    assert list((tmp_path / "new").iterdir()) == []
