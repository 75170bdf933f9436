"""Files that say of themselves whether they are whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdbench.seal import KEY, BrokenSealError, open_sealed, seal_file, sealed, unsealed

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda key: key != KEY), VALUES, max_size=5)


@given(DOCUMENTS)
def test_a_document_survives_being_written(content):
    assert unsealed(json.loads(json.dumps(sealed(content), indent=1))) == content


@given(DOCUMENTS, st.text(min_size=1, max_size=8), VALUES)
def test_a_changed_document_is_found(content, key, value):
    document = json.loads(json.dumps(sealed(content)))
    if key == KEY or (key in content and content[key] == value and type(content[key]) is type(value)):
        return
    document[key] = value
    if {k: v for k, v in document.items() if k != KEY} == content:
        return  # 1 and True, 0.0 and 0
    with pytest.raises(BrokenSealError):
        unsealed(document)


def test_a_document_without_a_seal_is_read():
    assert unsealed({"a": 1}) == {"a": 1}
    with pytest.raises(BrokenSealError):
        unsealed({"a": 1, KEY: "0" * 64})


def write(file, content: bytes) -> None:
    with file.open("w+b") as stream:
        stream.write(content)
        seal_file(stream)


@given(st.binary(max_size=300))
def test_a_file_is_read_without_its_seal(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("seal") / "file"
    write(file, content)
    with open_sealed(file) as stream:
        assert stream.read() == content
        assert stream.seek(-len(content), 2) == 0
        assert stream.read(3) == content[:3]
        assert stream.tell() == len(content[:3])


def test_every_changed_byte_is_found(tmp_path):
    file = tmp_path / "file"
    write(file, bytes(range(40)))
    good = file.read_bytes()
    found = 0
    for place in range(len(good)):
        file.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        try:
            with open_sealed(file) as stream:
                # a seal that is no seal any more leaves a file that is longer than what was written
                content = stream.read()
                assert content == bytes(range(40)) or len(content) == len(good)
        except BrokenSealError:
            found += 1
    assert found >= 40 + 64


def test_a_file_without_a_seal_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b"plain")
    with open_sealed(tmp_path / "file") as stream:
        assert stream.read() == b"plain"
