"""The bytes of a text file in blocks, decompressed on the way; a file that is cut off or spoilt is refused by name.

Arrow decompresses: like zstandard and gzip it reads several frames or members, and unlike zstandard it reports a
stream that ends early, which would otherwise pass for a shorter dataset.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from softprompt.data.reading import limits
from softprompt.errors import DatasetRefused
from softprompt.fetch.data_files import DataFile


def blocks_of(file: DataFile, compression: str) -> Iterator[bytes]:
    """The decompressed bytes of a file, at most BLOCK_BYTES at a time.

    Args:
        file: What to read.
        compression: `gzip`, `zstd` or empty.

    Raises:
        DatasetRefused: It cannot be opened or decompressed, or it is a decompression bomb.
    """
    try:
        yield from _decompressed(file, compression) if compression else _plain(file)
    except (OSError, pa.ArrowException) as error:
        raise DatasetRefused(
            "The dataset cannot be decompressed." if compression else "The dataset cannot be read.",
            where=file.name,
            expected=f"a complete {compression} file" if compression else "",
            actual=str(error),
            hint="Copy the file again, or compress it again." if compression else "",
        ) from None


def _plain(file: DataFile) -> Iterator[bytes]:
    with file.path.open("rb") as source:
        while block := source.read(limits.BLOCK_BYTES):
            yield block


def _decompressed(file: DataFile, compression: str) -> Iterator[bytes]:
    size, num_bytes, buffer = file.path.stat().st_size, 0, bytearray(limits.BLOCK_BYTES)
    if not size:
        raise OSError("the file is empty")
    with pa.OSFile(str(file.path)) as raw, pa.CompressedInputStream(raw, compression) as source:
        while block := _full_block(source, buffer):
            num_bytes += len(block)
            if num_bytes > max(limits.UNSUSPECTED_BYTES, size * limits.MAX_EXPANSION):
                raise DatasetRefused(
                    "The dataset grows out of proportion when it is decompressed.",
                    where=file.name,
                    expected=f"<= {limits.MAX_EXPANSION} times its {size} bytes",
                    hint="Decompress it, and look at what is in it.",
                )
            yield block


def _full_block(source: Any, buffer: bytearray) -> bytes:
    """A block, shorter only at the end: the stream gives less than it was asked for at the end of a frame.

    It fills a buffer of ours, because its `read` forgets the memory of an answer that fails.
    """
    view, filled = memoryview(buffer), 0
    while filled < len(buffer) and (num_bytes := source.readinto(view[filled:])):
        filled += num_bytes
    return bytes(view[:filled])
