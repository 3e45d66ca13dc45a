"""What routes have in common that take JSON, item by item: one, a list, an object with the list, or one a line."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monitor.ingest.openapi.parts import JSON, Description, Schema, answer, ref, refusals
from monitor.resources import resource

LINES = "application/x-ndjson"


@dataclass(frozen=True, kw_only=True, slots=True)
class Items:
    """One route of that kind.

    Attributes:
        path: of the route.
        operation: its id.
        summary: in a few words.
        one, many: what an item is called; `many` is also the name of the list in an object.
        id_field: names an item, and with an `s` the list of the accepted ones.
        contract: the contract's file in `schemas/`.
        component: its name among the schemas.
        receipt: the answer's name among the schemas.
        otherwise: fields that may be left to the sidecar, and what it does then.
        example: one item.
        receipt_extras: further fields of the answer.
    """

    path: str
    operation: str
    summary: str
    one: str
    many: str
    id_field: str
    contract: str
    component: str
    receipt: str
    otherwise: Mapping[str, str]
    example: Mapping[str, Any]
    receipt_extras: Mapping[str, Schema]


def description(items: Items) -> Description:
    """The route, and the contract of its items out of `schemas/`."""
    contract = contract_of(items.contract, items.otherwise)
    schemas = {**contract.pop("$defs", {}), items.component: contract, items.receipt: _receipt(items)}
    several = {"type": "array", "items": ref(items.component)}
    wrapped = {"type": "object", "required": [items.many], "properties": {items.many: several}}
    operation = {
        "operationId": items.operation,
        "summary": items.summary,
        "description": "What is acknowledged is on disk. Each item of a request is accepted or rejected on its own.",
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": {"anyOf": [ref(items.component), several, wrapped]},
                    "examples": {"one": {"summary": items.one.capitalize(), "value": items.example}},
                },
                LINES: {"schema": {"type": "string", "description": f"{items.one.capitalize()} a line."}},
            },
        },
        "responses": {
            "202": answer("At least one item is on disk, or there was none in the request.", ref(items.receipt)),
            "422": answer(
                "No item was accepted, or it is neither an item nor a list of them.",
                {"anyOf": [ref(items.receipt), ref("Refusal")]},
            ),
            **refusals((400, 401, 403, 408, 413, 415, 503), ref("Refusal")),
        },
    }
    return Description(paths={items.path: {"post": operation}}, schemas=schemas)


def _receipt(items: Items) -> Schema:
    ids = f"{items.id_field}s"
    return {
        "type": "object",
        "required": ["accepted", ids, "rejected"],
        "properties": {
            "accepted": {"type": "integer", "minimum": 0, "description": "Items that are on disk now."},
            ids: {"type": "array", "items": {"type": "string"}, "description": "Of the accepted ones, in order."},
            **items.receipt_extras,
            "rejected": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["index", "field", "problem"],
                    "properties": {
                        "index": {"type": "integer", "minimum": 0, "description": "The item's place in the request."},
                        items.id_field: {"type": "string"},
                        "field": {"type": "string"},
                        "problem": {"type": "string"},
                    },
                },
            },
        },
    }


def contract_of(file: str, otherwise: Mapping[str, str]) -> dict[str, Any]:
    """A contract out of `schemas/` as it is sent here: some fields may be left to the sidecar."""
    text = (resource("schemas") / file).read_text("utf-8")
    contract: dict[str, Any] = json.loads(text.replace('"#/$defs/', '"#/components/schemas/'))
    del contract["$id"], contract["$schema"]
    contract["required"] = [name for name in contract["required"] if name not in otherwise]
    properties: Mapping[str, dict[str, Any]] = contract["properties"]
    for name, instead in otherwise.items():
        properties[name]["type"] = ["string", "null"]
        properties[name]["description"] += f" Without one, {instead}."
    return contract
