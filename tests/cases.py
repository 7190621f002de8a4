"""Shapes and forms of alpha that cross the boundaries inside the package, shared by the parity tests.

A case is (shape of x, shape of alpha, channel_axis).  The boundaries: registers of up to 16 lanes and groups
of 16, rows shorter than 16, periods below 256 that are repeated and those of 64, strips of 8192 columns, blocks of
1024, segments of 16384, chunks of 8192 to 65536 elements, rows by 32s and by 32s of 32s (64s where slopes run).  Each
list names what it straddles, so that a new boundary gets a line here and no new test.
"""

from typing import NamedTuple


class Case(NamedTuple):
    """A shape, a form of alpha and the axis it counts along."""

    shape: tuple
    alpha: tuple
    channel_axis: int = 1

    def __str__(self):
        return f"x{self.shape} alpha{self.alpha} axis{self.channel_axis}".replace(" ", "").replace(",)", ")")


def per_channel(shape, axis=1):
    return Case(shape, (shape[axis],), axis)


WIDTHS = [1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 23, 24, 31, 32, 33, 40, 47, 48, 49, 63, 64, 65]
LENGTHS = [0, *range(1, 68), 95, 96, 97, 127, 128, 129, 255, 256, 257, 1023, 1024, 1025, 1039, 2047, 2048, 2049, 4099]

SHARED = [Case(s, a) for s in [(), (1,), (37,), (3, 5, 7), (2, 3, 4, 5, 6), (1100, 3)] for a in [(), (1,), (1, 1, 1)]]
# Slopes along rows: rows of every width, few and many of them, and past blocks and segments.
ROWS = [
    *(per_channel((n, c, width)) for width in WIDTHS for n, c in [(1, 6), (3, 5), (9, 7)]),
    *(per_channel((2, 3, width)) for width in (127, 128, 129, 1023, 1024, 1025, 2047, 2048, 2049, 3 * 1024 + 5)),
    *(per_channel((1, 2, width)) for width in (16383, 16384, 16385, 2 * 16384 + 17)),
    *(per_channel((n, 2, width)) for n, width in [(31, 20), (32, 20), (33, 20), (70, 1100), (33, 2100)]),
    *(per_channel((n, 3, width)) for n, width in [(40, 7), (1023, 3), (1025, 3), (1030, 17), (1100, 1)]),
    per_channel((9, 130, 14)),
    per_channel((2, 300, 7, 7)),
    per_channel((8, 40, 64)),
    per_channel((2, 3, 2, 5, 4)),
]
# A slope for each column: every period up to two registers of doubles and those around 256 and 2048.
COLUMNS = [
    *(
        per_channel((n, c), -1)
        for c in [*range(1, 36), 48, 63, 64, 65, 100, 131, 196, 255, 256, 257, 300]
        for n in (3, 20)
    ),
    *(per_channel((n, c), -1) for c in (2047, 2048, 2049, 4100) for n in (1, 5, 40)),
    *(per_channel((n, c), -1) for c in (8191, 8192, 8193, 8208, 20_000) for n in (1, 3)),
    *(per_channel((n, 3), -1) for n in (31, 32, 33, 1023, 1024, 1025, 33000)),
    *(per_channel((n, 131), 1) for n in (64, 65, 1100)),
    *(per_channel((n, 64), 1) for n in (2, 3, 63, 64, 65, 127, 129, 257)),
    *(per_channel((n, 16), 1) for n in (255, 256, 257, 4 * 64 * 3 + 1)),
    per_channel((2, 5, 6, 3), 3),
    per_channel((17,), 0),
    per_channel((70000,), -1),
]
# Every axis, counted from both ends.
AXES = [per_channel((2, 3, 4, 5), axis) for axis in range(-4, 4)] + [per_channel((3, 18, 4, 33), a) for a in range(4)]
# More dimensions broadcast by NumPy's rules.
BROADCAST = [
    Case(shape, tuple(shape[i] if kept[i] else 1 for i in range(4))[strip:])
    for shape in [(2, 3, 4, 5), (3, 2, 18, 33)]
    for kept in [tuple(map(int, f"{i:04b}")) for i in range(1, 16)]
    for strip in range(0, kept.index(1) + 1)
    if strip <= 2
] + [Case((5, 70), (5, 70)), Case((2, 3, 1100), (3, 1100)), Case((40, 3, 7), (40, 1, 7)), Case((4, 5000), (4, 1))]
EMPTY = [
    Case((0,), ()),
    Case((0,), (0,), 0),
    Case((3, 0), (0,)),
    Case((0, 3), (3,)),
    Case((2, 3, 0), (3,)),
    Case((2, 0, 4), (0,)),
    Case((2, 3, 0), (3, 1)),
    Case((2, 0, 4), (2, 0, 4)),
]
CASES = SHARED + ROWS + COLUMNS + AXES + BROADCAST + EMPTY

THREADS = (1, 2, 3, 7)
# Enough elements for several chunks, in every form.
LARGE = [
    Case((300_001,), ()),
    Case((2, 3, 70_001), ()),
    per_channel((4, 64, 37, 37)),
    per_channel((2, 3, 70_001)),
    per_channel((1, 40, 9000)),
    per_channel((40, 300, 30)),
    per_channel((1000, 50, 7)),
    per_channel((5000, 64)),
    per_channel((120_000, 3)),
    per_channel((150, 2049)),
    per_channel((70_001, 5), 0),
    per_channel((300_001,), 0),
    Case((300, 1001), (300, 1001)),
    Case((6, 5, 100, 101), (6, 1, 100, 1)),
    Case((6, 5, 100, 101), (1, 5, 1, 101)),
]
