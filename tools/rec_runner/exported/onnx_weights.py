"""Which files the weights of an ONNX model lie in, told without the package ``onnx``.

A model may name any file of the machine for its weights. ONNX Runtime up to 1.23 at least opens
it, wherever it is, and hands its bytes out as predictions.
"""

from __future__ import annotations

from collections.abc import Iterator

# The fields of protobuf's messages by which a tensor is reached, as onnx.proto numbers them.
FIELDS = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        **{5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto"},
        **{22: "SparseTensorProto", 23: "SparseTensorProto"},
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: "StringStringEntryProto"},
}
_ENTRY = "StringStringEntryProto"  # of external_data: field 1 is its key, field 2 its value
_VARINT, _EIGHT, _MESSAGE, _FOUR = 0, 1, 2, 5  # protobuf's wire types
_LONGEST_VARINT = 10


def files_of_weights(model: bytes) -> set[str]:
    """The files that a model's weights lie in beside it, as it names them.

    Args:
        model: ``model.onnx``.

    Raises:
        ValueError: it is no ONNX model.
    """
    found: set[str] = set()
    left = [("ModelProto", 0, len(model))]
    while left:
        kind, start, end = left.pop()
        inner = FIELDS.get(kind, {})
        parts = list(_parts(model, start, end))
        if kind == _ENTRY:
            texts = [(number, model[first:last]) for number, first, last in parts]
            # A word that comes twice counts as it came last, one that does not come is empty.
            if (1, b"location") in texts:
                values = [text for number, text in texts if number == 2] or [b""]
                found.update(text.decode("utf-8", "replace") for text in values)
        left += [(inner[number], first, last) for number, first, last in parts if number in inner]
    return found


def _parts(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field of a message that is text, bytes or a message.

    Raises:
        ValueError: it is no message.
    """
    while start < end:
        tag, start = _varint(data, start, end)
        wire = tag & 7
        if wire == _VARINT:
            _, start = _varint(data, start, end)
            continue
        sizes = {_EIGHT: 8, _FOUR: 4}
        if wire == _MESSAGE:
            size, start = _varint(data, start, end)
        elif wire in sizes:
            size = sizes[wire]
        else:
            raise ValueError(f"it is no ONNX model: a field of type {wire} at byte {start}")
        if start + size > end:
            raise ValueError(f"it is no ONNX model: a field at byte {start} ends after it")
        if wire == _MESSAGE:
            yield tag >> 3, start, start + size
        start += size


def _varint(data: bytes, start: int, end: int) -> tuple[int, int]:
    """A number of seven bits to a byte, and where it ends.

    Raises:
        ValueError: it does not end.
    """
    number = 0
    for place, byte in enumerate(data[start : min(end, start + _LONGEST_VARINT)]):
        number |= (byte & 127) << (7 * place)
        if byte < 128:
            return number, start + place + 1
    raise ValueError(f"it is no ONNX model: a number at byte {start} does not end")
