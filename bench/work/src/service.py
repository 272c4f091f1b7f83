# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A service that has documents in memory: filled once, then used when somebody
asks, and idle in between.

Documents are text of Python's own library. What each must be follows from its
number and from how often all were used, so that a wrong byte is noticed. They
are used in runs in a scattered order. The first access to each is timed: it is
where one waits for memory that is elsewhere.

Arguments: bytes of documents, in MiB; a seed; where one asks, with a line `use`,
or `spoil`, which makes one document wrong.
"""

import gc
import os
import socket
import sys
from array import array
from time import perf_counter_ns as clock
from zlib import crc32

# Documents that are used one after the other.
RUN = 16

# One in so many gets another text each time all are used.
RENEWED = 4

# Bytes of a document.
SHORTEST = 4096
LONGEST = 12288

# Bytes of a page.
PAGE = 4096

# Bytes of library that documents are cut out of.
STOCK = 1 << 22


class Document:
    __slots__ = ("words", "text")

    def __init__(self, text):
        self.words = text[-96:].decode("ascii", "replace").split()
        self.text = text

    def bytes(self):
        size = sys.getsizeof
        words = size(self.words) + sum(map(size, self.words))
        return size(self) + size(self.text) + words


class Service:
    def __init__(self, mib, seed):
        self.seed = seed
        self.generation = 0
        self.stock = library()
        self.documents = []
        # The collector would look at all of it again and again, and has nothing to find: who
        # has a heap like this keeps it away.
        gc.disable()
        held = 0
        while held < mib << 20:
            document = Document(self.text(len(self.documents), 0))
            held += document.bytes()
            self.documents.append(document)
        self.times = array("Q", bytes(8 * len(self.documents)))

    def text(self, number, generation):
        """What a document must be since it was renewed in a generation."""
        length = SHORTEST + crc32(b"%d" % number) % (LONGEST - SHORTEST)
        where = crc32(b"%d %d %d" % (self.seed, number, generation))
        where %= len(self.stock) - length
        name = b"%d %d\n" % (number, generation)
        return name + self.stock[where : where + length - len(name)]

    def use(self):
        start = clock()
        self.generation += 1
        generation, documents, times = self.generation, self.documents, self.times
        wrong = 0
        for number in order(len(documents), self.seed, generation):
            before = clock()
            text = documents[number].text
            text[::PAGE], text[-1]
            times[number] = clock() - before
            age = (number + generation) % RENEWED
            # Before this use: a document that is to be renewed has the text of its last time.
            last = max(generation - (age or RENEWED), 0)
            wrong += text != self.text(number, last)
            if age == 0:
                # Freed first, so that the new one may have its place.
                del text
                documents[number] = None
                documents[number] = Document(self.text(number, generation))
        counts = {}
        for time in times:
            # As Histogram of `histogram.rs` has them.
            bucket = time | (1 << max((time >> 3).bit_length() - 1, 0)) - 1
            counts[bucket] = counts.get(bucket, 0) + 1
        return (
            '{"documents":%d,"wrong":%d,"touches":{"counts":{%s}},'
            '"touch_microseconds":%d,"microseconds":%d}'
        ) % (
            len(documents),
            wrong,
            ",".join('"%d":%d' % pair for pair in counts.items()),
            sum(times) // 1000,
            (clock() - start) // 1000,
        )

    def spoil(self):
        document = self.documents[len(self.documents) // 2]
        document.text = document.text[:-1] + b"\0"
        return "{}"

    def listen(self, path):
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.listen()
        answers = {b"use\n": self.use, b"spoil\n": self.spoil}
        while True:
            peer, _ = server.accept()
            try:
                with peer, peer.makefile("rb") as request:
                    answer = answers.get(request.readline())
                    if answer:
                        peer.sendall(answer().encode())
            except OSError:
                # Who asked may be gone.
                pass


def library():
    """Text of the modules that come with Python."""
    top = os.path.dirname(os.__file__)
    text = bytearray()
    for name in sorted(os.listdir(top)):
        path = os.path.join(top, name)
        if name.endswith(".py") and os.path.isfile(path) and len(text) < STOCK:
            with open(path, "rb") as file:
                text += file.read()
    return bytes(text)


def order(count, seed, generation):
    """All numbers below `count`: runs in an order of this generation's own."""
    runs = range(0, count, RUN)
    for first in sorted(runs, key=lambda run: crc32(b"%d %d %d" % (seed, generation, run))):
        yield from range(first, min(first + RUN, count))


if __name__ == "__main__":
    Service(int(sys.argv[1]), int(sys.argv[2])).listen(sys.argv[3])
