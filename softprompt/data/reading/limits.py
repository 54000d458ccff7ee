"""How much of a thing is read. Beyond it a row is set aside, or the file refused, before memory is spent on it."""

MAX_LINE_BYTES = 1024 * 1024
"""Of a line, and of a record of several lines; without the line end."""
MAX_DEPTH = 32
"""Objects and lists inside each other; the row's own object is the first."""
MAX_COLUMNS = 1000
MAX_ROWS = 10_000_000
"""Of all files together: at 200 bytes a row that checks keep, two gigabytes."""

BLOCK_BYTES = 256 * 1024
"""Read at once; below MAX_LINE_BYTES, so that only the first line of a block can be too long."""
BATCH_ROWS = 64
"""Rows of Parquet and Arrow that are decoded at once; with rows as large as they may be, 64 MiB."""
MAPPED_BYTES = 32 * 1024 * 1024
"""A Parquet file up to this size is mapped into memory."""

MAX_EXPANSION = 200
UNSUSPECTED_BYTES = 1024**3
"""A file that grows more than MAX_EXPANSION times, beyond this size, was made to exhaust its reader."""
