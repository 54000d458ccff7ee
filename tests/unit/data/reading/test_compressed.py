"""gzip and zstd: several members and frames are one file, and an end that is missing is noticed."""

import gzip

import pytest
import zstandard

from softprompt.data.reading import limits
from softprompt.data.reading.compressed import blocks_of
from softprompt.errors import DatasetRefused
from softprompt.fetch.data_files import DataFile

COMPRESS = {"gzip": lambda data: gzip.compress(data, mtime=0), "zstd": zstandard.compress}
CONTENT = b"".join(b"line %d\n" % n for n in range(100_000))


@pytest.fixture(params=COMPRESS)
def compression(request):
    return request.param


def read(path, data, compression):
    path.write_bytes(data)
    return list(blocks_of(DataFile("a.jsonl.x", path), compression))


def test_blocks_are_the_file_and_no_larger_than_they_may_be(tmp_path, compression):
    for compressed in (
        COMPRESS[compression](CONTENT),
        COMPRESS[compression](CONTENT[:99]) + COMPRESS[compression](b"") + COMPRESS[compression](CONTENT[99:]),
    ):
        blocks = read(tmp_path / "a", compressed, compression)
        assert b"".join(blocks) == CONTENT
        assert max(map(len, blocks)) == limits.BLOCK_BYTES
    assert b"".join(read(tmp_path / "a", CONTENT, "")) == CONTENT


@pytest.mark.parametrize("keep", [0, 1, 10, 1000, -1])
def test_a_file_that_is_cut_off_is_refused(tmp_path, compression, keep):
    with pytest.raises(DatasetRefused, match="cannot be decompressed") as caught:
        read(tmp_path / "a", COMPRESS[compression](CONTENT)[:keep], compression)
    assert caught.value.where == "a.jsonl.x"
    assert "again" in caught.value.hint


def test_what_comes_after_the_end_is_refused(tmp_path, compression):
    with pytest.raises(DatasetRefused):
        read(tmp_path / "a", COMPRESS[compression](CONTENT) + b"garbage", compression)


def test_changed_bytes_are_noticed_by_the_checksum(tmp_path):
    data = bytearray(gzip.compress(CONTENT))
    data[-6] ^= 1
    with pytest.raises(DatasetRefused):
        read(tmp_path / "a", bytes(data), "gzip")


def test_a_bomb_is_refused_before_it_is_read(tmp_path, compression, monkeypatch):
    monkeypatch.setattr(limits, "UNSUSPECTED_BYTES", 10 * 1024 * 1024)
    bomb = COMPRESS[compression](b"\n" * 30 * 1024 * 1024)
    with pytest.raises(DatasetRefused, match="out of proportion"):
        read(tmp_path / "a", bomb, compression)
    monkeypatch.setattr(limits, "UNSUSPECTED_BYTES", 40 * 1024 * 1024)
    assert sum(map(len, read(tmp_path / "a", bomb, compression))) == 30 * 1024 * 1024
