"""Damaged and hostile variants of a .tflite file of fer-edge, by kind and number. The same arguments give the same bytes."""

import io
import json
import math
import random
import struct
import zipfile
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from graph_mutants import GRAPH_KINDS

from fer_edge.artifacts.contract import CONTRACT_FILE, LABELS_FILE

WORDS = (0, 1, 4, 100, 255, 0xFFFF, 0x10000, 1 << 24, 0x7FFFFFFF, 0x7FFFFFF0, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
ODD = (None, True, 0, -1, 1.5, "x", [], {}, 10**30, math.nan, "<script>", "\x1b[2J", [[1]], 2**31)
ARCHIVE_DATE = (1980, 1, 1, 0, 0, 0)


def make_archive(members, compression=zipfile.ZIP_STORED):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in members:
            archive.writestr(zipfile.ZipInfo(name, ARCHIVE_DATE), text, compression)
    return content.getvalue()


@dataclass(frozen=True)
class Original:
    """A valid file in parts."""

    flatbuffer: bytes
    members: dict

    @classmethod
    def read(cls, path):
        content = path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: archive.read(member) for member in archive.infolist()}
            start = min(member.header_offset for member in archive.infolist())
        return cls(content[:start], members)

    @cached_property
    def tail(self):
        return make_archive(self.members.items())

    @cached_property
    def content(self):
        return self.flatbuffer + self.tail

    @cached_property
    def contract(self):
        return json.loads(self.members[CONTRACT_FILE])

    @cached_property
    def constants(self):
        """(start, end) of the constant buffers in the flatbuffer."""
        from ai_edge_litert import schema_py_generated as schema

        model = schema.Model.GetRootAs(self.flatbuffer, 0)
        buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
        starts = [(buffer._tab.Vector(buffer._tab.Offset(4)), buffer.DataLength()) for buffer in buffers if buffer.DataLength()]
        return [(start, start + length) for start, length in starts]

    @cached_property
    def table_bytes(self):
        """Positions of all bytes that are not constants."""
        mask = np.ones(len(self.flatbuffer), bool)
        for start, end in self.constants:
            mask[start:end] = False
        return np.flatnonzero(mask)

    def with_contract(self, contract):
        """The same file with another contract: a dict, or raw text."""
        text = contract if isinstance(contract, bytes) else json.dumps(contract).encode()
        return replace(self, members={**self.members, CONTRACT_FILE: text})


def truncate(original, rng):
    whole = original.content
    return whole[: rng.choice([rng.randrange(64), rng.randrange(len(whole)), len(whole) - rng.randrange(1, 2000)])]


def truncate_flatbuffer(original, rng):
    return original.flatbuffer[: rng.randrange(8, len(original.flatbuffer))] + original.tail


def flip(positions, counts):
    def mutate(original, rng):
        content = bytearray(original.content)
        for _ in range(rng.choice(counts)):
            content[int(rng.choice(positions(original)))] ^= 1 << rng.randrange(8)
        return bytes(content)

    return mutate


def flip_constants(original, rng):
    content = bytearray(original.content)
    for _ in range(rng.choice([1, 4, 64, 1000])):
        content[rng.randrange(*rng.choice(original.constants))] ^= 1 << rng.randrange(8)
    return bytes(content)


def set_word(original, rng):
    content, size = bytearray(original.content), len(original.flatbuffer)
    for _ in range(rng.choice([1, 1, 2, 3])):
        word = rng.choice([*WORDS, rng.randrange(2**32), rng.randrange(size), -rng.randrange(size) & 0xFFFFFFFF])
        struct.pack_into("<I", content, min(size - 4, int(rng.choice(original.table_bytes)) & ~3), word)
    return bytes(content)


def fill_block(original, rng):
    content, length = bytearray(original.content), rng.choice([4, 16, 64, 512])
    start = rng.randrange(8, len(original.flatbuffer) - length)
    content[start : start + length] = bytes([rng.choice([0, 255])]) * length
    return bytes(content)


def contract_value(original, rng):
    contract = json.loads(original.members[CONTRACT_FILE])
    place = contract
    while isinstance(place, dict) and place:
        key = rng.choice(list(place))
        if not isinstance(place[key], dict) or not place[key] or rng.random() < 0.3:
            place[key] = rng.choice(ODD)
            break
        place = place[key]
    return original.with_contract(contract).content


def contract_without(original, rng):
    contract = dict(original.contract)
    del contract[rng.choice(list(contract))]
    return original.with_contract(contract).content


def contract_field(*changes):
    def mutate(original, rng):
        contract = json.loads(original.members[CONTRACT_FILE])
        rng.choice(changes)(contract)
        return original.with_contract(contract).content

    return mutate


def labels(value):
    return lambda contract: contract.update(labels=value(contract["labels"]))


def crop(**values):
    return lambda contract: contract["crop"].update(values)


def scale(value):
    return lambda contract: contract["crop"]["box_transforms"]["haar"].update(scale=value)


def contract_text(original, rng):
    text = original.members[CONTRACT_FILE]
    deep = [b"[" * 100_000, b'{"a":' * 100_000]
    texts = [*deep, b"", b"{}", b"[]", b"null", b"\xff\xfe", b"9" * 10_000, text[:-50], text + b"x"]
    return original.with_contract(rng.choice([*texts, b" " * 10**7, text.decode().encode("utf-16")])).content


def archive(original, rng):
    text, names = original.members[CONTRACT_FILE], original.members[LABELS_FILE]
    whole = bytearray(original.tail)
    change = rng.randrange(7)
    if change == 0:
        return original.flatbuffer + make_archive([(LABELS_FILE, names)])
    if change == 1:
        return original.flatbuffer + make_archive([(LABELS_FILE, b"\n".join(names.split()[::-1])), (CONTRACT_FILE, text)])
    if change == 2:
        return original.flatbuffer + bytes(1000) + original.tail
    if change == 3:
        return original.content + make_archive([(CONTRACT_FILE, b"{}")])
    if change == 4:  # encrypted, or an unknown compression
        position = whole.rfind(b"PK\x01\x02")
        whole[position + rng.choice([8, 10])] = rng.choice([1, 9, 12, 97])
    elif change == 5:
        struct.pack_into("<I", whole, len(whole) - 6, rng.choice([0, 1, 2**31, 2**32 - 1]))
    else:
        for _ in range(rng.choice([1, 2, 4])):
            whole[rng.randrange(len(whole))] = rng.randrange(256)
    return original.flatbuffer + bytes(whole)


def bomb(original, rng):
    members = [(LABELS_FILE, original.members[LABELS_FILE]), (CONTRACT_FILE, b" " * (rng.choice([20, 50]) << 20))]
    return original.flatbuffer + make_archive(members, rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]))


KINDS = {
    "truncate": truncate,
    "truncate_flatbuffer": truncate_flatbuffer,
    "flip_any": flip(lambda original: range(8, len(original.content)), [1, 1, 2, 8, 64]),
    "flip_header": flip(lambda original: range(256), [1, 2, 4]),
    "flip_tables": flip(lambda original: original.table_bytes, [1, 1, 2, 4, 16]),
    "flip_constants": flip_constants,
    "set_word": set_word,
    "fill_block": fill_block,
    **GRAPH_KINDS,
    "contract_value": contract_value,
    "contract_without": contract_without,
    "contract_labels": contract_field(
        labels(lambda names: names[::-1]),
        labels(lambda names: names[:-1]),
        labels(lambda names: ["a"] * len(names)),
        labels(lambda names: ["\x1b[31m", *names[1:]]),
        labels(lambda names: ["x" * 10**6, *names[1:]]),
        labels(lambda names: [1] * len(names)),
    ),
    "contract_crop": contract_field(
        *(crop(training_resolution_px=v) for v in (0, -1, 10**5, "48")), *map(scale, (0, 1e9, math.nan))
    ),
    "contract_text": contract_text,
    "archive": archive,
    "bomb": bomb,
}


def mutant(original, kind, seed, number):
    return KINDS[kind](original, random.Random(f"{kind}/{seed}/{number}"))
