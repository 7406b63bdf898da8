"""Random numbers of one user: the same for the same seed, and small, as there may be thousands of users."""

from __future__ import annotations

from hashlib import blake2b

_BITS = 64


class Draws:
    """Numbers from 0 up to 1, each by hashing the seed with how many there were before.

    It is 20 times smaller than `random.Random`, which keeps 2.5 KB, and needs a microsecond.
    """

    __slots__ = ("_count", "_seed")

    def __init__(self, seed: str) -> None:
        self._seed = seed.encode()
        self._count = 0

    def share(self) -> float:
        """The next number, at least 0 and less than 1."""
        self._count += 1
        digest = blake2b(b"%b/%d" % (self._seed, self._count), digest_size=_BITS // 8).digest()
        return (int.from_bytes(digest, "big") >> (_BITS - 53)) / 2**53  # as many bits as a float has

    def below(self, count: int) -> int:
        """The next number as a place among so many."""
        return int(self.share() * count)
