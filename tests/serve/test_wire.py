"""Tensors are cut out of protobuf messages, whatever else is in them; protobuf is the reference."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rekindle.serve.grpc import codec, schema
from rekindle.serve.grpc.wire import cut

Request = schema.message("inference.ModelInferRequest")
Response = schema.message("inference.ModelInferResponse")
RAW = Request.DESCRIPTOR.fields_by_name["raw_input_contents"].number
REQUESTS = st.builds(
    Request,
    model_name=st.text(max_size=300),
    id=st.text(max_size=5),
    parameters=st.dictionaries(
        st.text(max_size=5),
        st.builds(
            schema.message("inference.InferParameter"),
            int64_param=st.integers(-(2**63), 2**63 - 1),
        ),
        max_size=3,
    ),
    inputs=st.lists(
        st.builds(
            Request.InferInputTensor,
            name=st.text(max_size=5),
            shape=st.lists(st.integers(-1, 2**40), max_size=4),
        ),
        max_size=3,
    ),
    raw_input_contents=st.lists(st.binary(max_size=400), max_size=4),
)


@given(REQUESTS)
def test_what_is_cut_out_is_what_protobuf_reads(request_: object) -> None:
    data = request_.SerializeToString()
    rest, views = cut(data, RAW)
    assert [bytes(view) for view in views] == list(request_.raw_input_contents)
    without = Request.FromString(data)
    del without.raw_input_contents[:]
    assert Request.FromString(rest) == without


@given(st.binary(max_size=60))
def test_any_bytes_are_cut_or_left_whole(data: bytes) -> None:
    rest, views = cut(data, RAW)
    assert views or rest == data
    if views:
        assert len(rest) + sum(map(len, views)) < len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x3a\x05abc",  # ends before its length says
        b"\x3a" + b"\xff" * 9 + b"\x01",  # a length of 64 bits
        b"\x3a" + b"\xff" * 11,  # a number without end
        b"\x3b\x3c",  # a group
        b"\x3a\x01a" + b"\x3e",  # a wire type that there is not
        b"\x3a\x00" * 1000,  # too many fields for Python
    ],
)
def test_what_is_odd_is_left_to_protobuf(data: bytes) -> None:
    assert cut(data, RAW) == (data, [])


def test_large_tensors_are_views_of_the_message_and_small_ones_its_own() -> None:
    for size in (8, 5000):
        sent = Request(model_name="m", raw_input_contents=[b"x" * size])
        found = codec.parse(sent.SerializeToString())
        assert [bytes(raw) for raw in found.raw] == [b"x" * size]
        assert isinstance(found.raw[0], memoryview) == (size == 5000)
        assert found.message.model_name == "m"
