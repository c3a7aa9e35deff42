"""A node against ONNX's own definition of its operator: attributes, inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import AttributeProto, NodeProto, defs

from rekindle._errors import ModelError

_OPTIONAL = defs.OpSchema.FormalParameterOption.Optional
_VARIADIC = defs.OpSchema.FormalParameterOption.Variadic


def check(proto: NodeProto, domain: str, version: int, label: str) -> None:
    """ModelError where the node breaks its definition; operators without one pass.

    Operators can then trust their attributes' types, as `onnx.checker` would promise.
    """
    try:
        schema = defs.get_schema(proto.op_type, version, domain)
    except defs.SchemaError:
        return
    if schema.deprecated:
        raise ModelError(
            f"node {label}: operator {proto.op_type} was withdrawn by opset {version}",
            hint="convert the model with onnx.version_converter",
        )
    _check_attributes(proto, schema, label)
    _check_parameters(list(proto.input), schema.inputs, schema.min_input, f"node {label}: input")
    _check_parameters(
        list(proto.output), schema.outputs, schema.min_output, f"node {label}: output"
    )


def _check_attributes(proto: NodeProto, schema: defs.OpSchema, label: str) -> None:
    seen = set()
    for attribute in proto.attribute:
        name = attribute.name
        if name in seen:
            raise ModelError(f"node {label} has attribute {name!r} twice")
        seen.add(name)
        expected = schema.attributes.get(name)
        if expected is None:
            raise ModelError(
                f"node {label}: operator {proto.op_type} has no attribute {name!r}",
                hint=f"it has: {', '.join(sorted(schema.attributes)) or 'none'}",
            )
        if attribute.type != number_of(expected):
            raise ModelError(
                f"node {label}: attribute {name!r} is {_type_name(attribute.type)}, "
                f"expected {_type_name(number_of(expected))}"
            )
    for name, expected in schema.attributes.items():
        if expected.required and name not in seen:
            raise ModelError(f"node {label} lacks its attribute {name!r}")


def number_of(attribute: defs.OpSchema.Attribute) -> int:
    """The AttributeProto type of an attribute's definition."""
    number: int = int(attribute.type)  # type: ignore[call-overload]  # an enum; the stubs hide it
    return number


def _type_name(number: int) -> str:
    try:
        return str(AttributeProto.AttributeType.Name(number))
    except ValueError:
        return f"type {number}"


def _check_parameters(
    names: Sequence[str], formal: Sequence[defs.OpSchema.FormalParameter], least: int, what: str
) -> None:
    variadic = bool(formal) and formal[-1].option == _VARIADIC
    if len(names) < least or (len(names) > len(formal) and not variadic):
        most = "more" if variadic else str(len(formal))
        raise ModelError(f"{what}s: {len(names)} given, expected {least} to {most}")
    for index, name in enumerate(names):
        parameter = formal[min(index, len(formal) - 1)]
        if not name and parameter.option not in (_OPTIONAL, _VARIADIC):
            raise ModelError(f"{what} {index} ({parameter.name}) is required, but absent")
